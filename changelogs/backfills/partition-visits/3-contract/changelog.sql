--liquibase formatted sql

--changeset shop:visits-are-partitioned
--comment migrator:requires partition-visits
alter table visit rename to visit_in_one;
alter table visit_by_month rename to visit;
--rollback alter table visit rename to visit_by_month;
--rollback alter table visit_in_one rename to visit;
