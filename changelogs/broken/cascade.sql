--liquibase formatted sql

--changeset shop:forget-cancelled
--comment The foreign key deletes the items too, though nothing here says so.
delete from orders where status = 'cancelled';
--rollback empty
