--liquibase formatted sql

--changeset bench:customer
create table customer (
  id bigint primary key,
  email text not null unique,
  name text not null,
  credit numeric(12,2) not null,
  preferences jsonb not null,
  created_at timestamptz not null
);

--changeset bench:orders
create table orders (
  id bigint primary key,
  customer_id bigint not null references customer,
  status text not null,
  total numeric(12,2) not null,
  placed_at timestamptz not null,
  note text
);

--changeset bench:order-item
create table order_item (
  id bigint primary key,
  order_id bigint not null references orders,
  product text not null,
  quantity int not null,
  price numeric not null
);

--changeset bench:event
create table event (
  id bigint primary key,
  at timestamptz not null,
  kind text not null,
  payload jsonb not null
);
