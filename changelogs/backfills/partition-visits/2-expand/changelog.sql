--liquibase formatted sql

--changeset shop:visits-by-month
create table visit_by_month (like visit including defaults, primary key (id, at)) partition by range (at);
create table visit_2026_q1 partition of visit_by_month for values from ('2026-01-01 00:00+00') to ('2026-04-01 00:00+00');
create table visit_2026_q2 partition of visit_by_month for values from ('2026-04-01 00:00+00') to ('2026-07-01 00:00+00');
create table visit_other partition of visit_by_month default;
--rollback drop table visit_by_month;
