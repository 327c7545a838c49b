--liquibase formatted sql

--changeset shop:platinum
alter type customer_tier add value 'platinum';
--rollback empty

--changeset shop:first-platinum
update customer set tier = 'platinum' where id = 1;
--rollback update customer set tier = 'gold' where id = 1;
