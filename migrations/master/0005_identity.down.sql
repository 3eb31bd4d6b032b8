drop function crl_put, crl_plan, crl_next, responder_dns_note, responder_slots_drop, responder_cut, responder_login_open, responder_access, responder_login_set, responder_login,
  responder_restore, responder_suspend, responder_plan;
create or replace function responder_revoke(p_site text, p_reason smallint, p_why text, p_os_user text) returns table (issuer_id int, serial bytea, changed boolean)
  language plpgsql security definer set search_path = pg_catalog, pg_temp as $$
declare
  r record;
begin
  update public.responder set state = 'revoked' where name = p_site;
  if not found then
    raise exception 'site % is not on the roster', p_site using errcode = 'no_data_found', hint = 'ocspctl responder list shows the sites.';
  end if;
  update public.responder_key set banned = true where site = p_site;
  for r in select rc.issuer_id, rc.serial from public.responder_certificate rc join public.certificate c using (issuer_id, serial)
           where rc.site = p_site and c.not_after > clock_timestamp() order by 1, 2 loop
    issuer_id := r.issuer_id;
    serial := r.serial;
    select v.changed into changed from public.certificate_revoke_row('cert revoke', r.issuer_id, r.serial, p_reason, null, p_why, p_os_user) v;
    return next;
  end loop;
  perform public.note('responder revoke', jsonb_build_object('site', p_site, 'reason', p_reason), p_why, p_os_user);
end $$;
drop function responder_serials;
drop trigger admit on responder_certificate;
drop function responder_certificate_admit;
drop table crl_planned, crl_number, responder_withheld, responder_planned, responder_dns;
alter table responder drop column login;
