--liquibase formatted sql

--changeset shop:wide-ticket-id
alter table ticket add column wide_id bigint;
--rollback alter table ticket drop column wide_id;
