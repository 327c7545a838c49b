--liquibase formatted sql

--changeset shop:own-commit-first
create table half_done (id integer);
insert into half_done values (1);
--rollback drop table half_done;

--changeset shop:own-commit splitStatements:false
insert into half_done values (2);
commit;
insert into half_done values (3);
--rollback delete from half_done where id > 1;

--changeset shop:own-commit-last
alter table half_done add constraint never check (id > 1);
--rollback alter table half_done drop constraint never;
