drop function epoch_new, approval_give, approval_request, limit_set, limit_take;
drop table approval, revocation_tally, limits;
