--liquibase formatted sql

--changeset shop:deferred-key
create table voucher (
  id integer primary key,
  customer_id bigint references customer deferrable initially deferred
);
insert into voucher values (1, -1);
--rollback drop table voucher;
