drop trigger purge_guard on issuer;
drop function issuer_purge_guard, purge_mark, purge_batch, purgeable;
drop table purge;
