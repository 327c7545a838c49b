--liquibase formatted sql

--changeset shop:visit
create table visit (
  id bigint primary key,
  page text not null,
  seconds integer,
  at timestamptz not null
);
insert into visit
select n, '/page/' || n % 500, n % 300, timestamptz '2026-01-01 00:00:00+00' + n % 181 * interval '1 day'
from generate_series(1, 20000) as n;
--rollback drop table visit;
