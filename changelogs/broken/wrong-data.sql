--liquibase formatted sql

--changeset shop:summer-sale
--comment Every statement succeeds, but orders that were paid long ago lose a tenth of their total.
update orders set total = round(total * 0.9, 2) where status in ('paid', 'shipped');
--rollback empty
