--liquibase formatted sql

--changeset shop:index-in-place runInTransaction:false
create index concurrently order_by_placed_at on orders (placed_at);
--rollback drop index concurrently order_by_placed_at;

--changeset shop:index-invalid runInTransaction:false
create unique index concurrently order_unique_total on orders (total);
--rollback drop index concurrently if exists order_unique_total;
