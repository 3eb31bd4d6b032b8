package database

import (
	"context"
	"fmt"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/masterdb"
)

// limit is db limit.
type limit struct {
	cli.Change
	cli.Given
	PerHour int64 `flag:"revocations-per-hour" help:"the new limit <N>; 0: every revocation needs two persons"`
}

func (limit) Doc() cli.Doc {
	return cli.Doc{
		Name: "limit", Short: "show or set how many revocations an hour need no second person",
		Long: `Counts certificates that were good and are revoked or put on hold by a login: by
cert revoke, cert hold and cert import. Beyond the limit (100 an hour of one login
unless set) the master refuses them until two persons allow more: see ocspctl
approval request bulk. All services together revoke twice the limit, and all
logins three times: so a person's share is always left. What a login issued
within the hour and takes back counts against its own limit alone. Not counted:
certificates that come in revoked, holds that become permanent, and responder
revoke and suspend.
Showing it needs any login at the master, setting it a superuser.`,
		Example: `
		ocspctl db limit
		ocspctl db limit --revocations-per-hour 500 --why 'decided on 2026-11-20' --apply`,
	}
}

func (v *limit) Run(ctx context.Context, m *ctl.Master) error {
	l, err := m.Store.Limit(ctx)
	if err != nil {
		return err
	}
	before := l.PerHour
	if !v.Given.Given("revocations-per-hour") {
		return m.Show(cli.Quiet(v.Outcome(false)), limitRecord(l, before, cli.F("before", "", before)))
	}
	outcome, err := m.Try(ctx, v.Change, func(store *masterdb.DB, act db.Act) (bool, error) {
		before, err = store.SetLimit(ctx, v.PerHour, act)
		return v.PerHour != before, err
	})
	if err != nil {
		return err
	}
	return m.ShowChange(outcome, limitRecord(l, v.PerHour, cli.F("before", "before", before)))
}

// limitRecord returns a limit with its use; the use by services and by all leaves out what
// services issued themselves within the hour.
func limitRecord(l masterdb.Limit, perHour int64, before cli.Field) cli.Record {
	return cli.Record{
		cli.Shown("revocations_per_hour", "revocations an hour", perHour, fmt.Sprintf("%d of one login", perHour)), before,
		cli.Shown("used_in_the_last_hour", "used in the last hour", l.Mine, fmt.Sprintf("%d by this login", l.Mine)),
		cli.Shown("used_by_services", "by all services", l.Services, fmt.Sprintf("%d of %d", l.Services, 2*perHour)),
		cli.Shown("used_by_all", "by all logins", l.All, fmt.Sprintf("%d of %d", l.All, 3*perHour)),
	}
}
