--liquibase formatted sql

--changeset shop:name-in-parts
--comment migrator:requires split-name
alter table member drop column name;
--rollback alter table member add column name text;
--rollback update member set name = first_name || ' ' || last_name;
