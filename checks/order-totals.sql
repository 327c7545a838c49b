-- migrator: violations
-- An order's total is the sum of its items.
select o.id, o.total, sum(i.quantity * i.price) as items
from orders o left join order_item i on i.order_id = o.id
group by o.id, o.total
having o.total is distinct from sum(i.quantity * i.price)
