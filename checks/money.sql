-- migrator: unchanged
-- What customers were charged in all, and how many orders there are.
select count(*) || ' orders, ' || sum(total) from orders
