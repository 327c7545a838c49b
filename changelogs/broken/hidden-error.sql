--liquibase formatted sql

--changeset shop:hidden-first
alter table customer add column nickname text;
--rollback alter table customer drop column nickname;

--changeset shop:hidden-error failOnError:false
update customer set no_such_column = 1;
--rollback empty
