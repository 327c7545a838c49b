--liquibase formatted sql

--changeset shop:parts-of-a-name
alter table member add column first_name text, add column last_name text;
--rollback alter table member drop column first_name, drop column last_name;
