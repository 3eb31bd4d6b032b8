drop function epoch_new, approval_refuse, approval_give, approval_open, approval_request, correction_make, correction_filed, limit_set, limit_take;
drop table approval, revocation_tally, limits;
