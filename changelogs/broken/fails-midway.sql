--liquibase formatted sql

--changeset shop:gift-note
alter table orders add column gift_note text;
--rollback alter table orders drop column gift_note;

--changeset shop:close-old-orders
update orders set status = 'cancelled' where status = 'open' and placed_at < timestamptz '2025-09-01 00:00:00+00';
--rollback empty

--changeset shop:cheap-products
alter table product add constraint product_is_cheap check (price < 100);
--rollback alter table product drop constraint product_is_cheap;
