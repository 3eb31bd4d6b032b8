alter table site_state drop column barred;
