-- migrator: unchanged
select count(*) || ' orders, ' || sum(total) from orders
