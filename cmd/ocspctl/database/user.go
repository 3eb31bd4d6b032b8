package database

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/cmd/ocspctl/internal/ctl"
	"ocspfleet/db"
	"ocspfleet/db/tables"
)

// groups are the roles of the migrations by the values of --role.
var groups = map[string]db.Role{
	"responder": db.RoleResponder, "sync": db.RoleSync, "ca": db.RoleCA,
	"operator": db.RoleOperator, "publisher": db.RolePublisher, "replica": db.RoleReplica,
}

// userAdd is db user add.
type userAdd struct {
	cli.AtOnce
	cli.Given
	Name         string `arg:"NAME"`
	Role         string `flag:"role,required" help:"what the login may do: <GROUPS>"`
	Kind         string `flag:"kind" help:"whose it is: <person|service> (default: what it has, for a new one person for operator, else service)"`
	PasswordFile string `flag:"password-file,required" help:"read the password from the first line of <FILE>"`
	Connections  int    `flag:"connections" help:"at most <N> connections at a time (default: what it has, for a new one that of its role)"`
}

// Words puts the groups into the help.
func (userAdd) Words() []string {
	return []string{"GROUPS", strings.Join(slices.Sorted(maps.Keys(groups)), "|")}
}

func (userAdd) Doc() cli.Doc {
	return cli.Doc{
		Name: "add", Short: "make a login, or set right its role and password",
		Long: `Makes a login of the database that is a member of one group, or sets right an
existing one: its group, its password, no superuser. The password leaves this
process only as its SCRAM verifier. At the master it stands in the audit.

operator: staff. ca: the CA's software, which may issue, revoke and import.
publisher: ocspsyncd at the master. replica: a site at the master. sync:
ocspsyncd at a site. responder: ocspd at a site, which can only read.

A login may have so many connections at a time, so that none can keep the others out:
operator 4, ca 32, replica 8, the daemons 16 each. --connections sets another number,
which stays when the password is changed.

A login is a person's or a program's (a service's): requests and approvals are
persons' alone, and services never use up the persons' share of the hourly limit
(db limit). A login that was closed with its site is refused.`,
		Example: `
		ocspctl db user add alice --role operator --password-file alice.pw
		ocspctl db user add site_a --role replica --password-file site_a.pw`,
	}
}

// Check refuses another group or kind.
func (v *userAdd) Check() error {
	switch kind := db.LoginKind(v.Kind); {
	case groups[v.Role] == "":
		return cli.Usagef("--role %q: want one of %s", v.Role, strings.Join(slices.Sorted(maps.Keys(groups)), ", "))
	case kind != "" && kind != db.KindPerson && kind != db.KindService:
		return cli.Usagef("--kind %q: want person or service", v.Kind)
	case v.Given.Given("connections") && v.Connections < 1:
		return cli.Usagef("--connections %d: want 1 or more", v.Connections)
	}
	return nil
}

func (v *userAdd) Run(ctx context.Context, e *ctl.Either) error {
	raw, err := os.ReadFile(v.PasswordFile)
	if err != nil {
		return fmt.Errorf("reading the password: %w", err)
	}
	password := strings.TrimRight(string(raw), "\r\n")
	if password == "" || strings.ContainsAny(password, "\r\n\x00") {
		return fmt.Errorf("reading the password: %s: want one line", v.PasswordFile)
	}
	act, err := ctl.Act(cli.Change{})
	if err != nil {
		return err
	}
	is, err := e.Store.CreateLoginWith(ctx, v.Name, groups[v.Role], password, tables.LoginOptions{Kind: db.LoginKind(v.Kind), Connections: v.Connections}, act)
	if err != nil {
		return err
	}
	return e.ShowChange(cli.NewOutcome("db user add", true, true), cli.Record{
		cli.F("name", "login", v.Name), cli.Shown("role", "role", v.Role, string(groups[v.Role])),
		cli.F("kind", "kind", string(is.Kind)), cli.F("connections", "connections", is.Connections),
	})
}

// login returns a login as ocspctl shows it; only the master knows its kind and site.
func login(l tables.Account) cli.Record {
	return cli.Record{
		cli.F("name", "LOGIN", l.Name), cli.Shown("groups", "GROUP", l.Groups, strings.Join(l.Groups, ",")),
		cli.F("kind", "KIND", cli.OrNil(l.Kind)), cli.F("site", "SITE", cli.OrNil(l.Site)),
		cli.F("connections", "", l.Connections), cli.Shown("sessions", "SESSIONS", l.Sessions, fmt.Sprintf("%d of %d", l.Sessions, l.Connections)),
	}
}

// userList is db user list.
type userList struct{}

func (userList) Doc() cli.Doc {
	return cli.Doc{
		Name: "list", Short: "show the logins in groups of ours",
		Long: `Shows each login in a group of ours, in the whole cluster: whose it is, a person's or
a program's, and how many of its connections it has now. At the master it needs an
operator's login, at a site any of ours.`,
		Example: "ocspctl db user list",
	}
}

func (userList) Run(ctx context.Context, e *ctl.Either) error {
	logins, err := e.Store.Logins(ctx)
	if err != nil {
		return err
	}
	return e.Show(cli.List("logins", logins, login))
}

// userRemove is db user remove.
type userRemove struct {
	cli.Change
	Name string `arg:"NAME"`
}

func (userRemove) Doc() cli.Doc {
	return cli.Doc{
		Name: "remove", Short: "drop a login and end its sessions",
		Long: `A site's login is closed with its site (responder revoke), and cannot be removed here.
The login is gone from every database of the cluster. At the master it stands in the audit.`,
		Example: `
		ocspctl db user remove alice
		ocspctl db user remove alice --why 'left the team' --apply`,
	}
}

func (v *userRemove) Run(ctx context.Context, e *ctl.Either) error {
	act, err := ctl.Act(v.Change)
	if err != nil {
		return err
	}
	var is tables.Account
	if err := e.Store.Try(ctx, v.Apply, func(store *tables.DB) error {
		is, err = store.RemoveLogin(ctx, v.Name, act)
		return err
	}); err != nil {
		return err
	}
	if v.Apply {
		if is.Sessions, err = e.Store.EndSessions(ctx); err != nil {
			return err
		}
	}
	return e.ShowChange(v.Outcome(true), cli.Quiet(cli.Object("login", login(is))), cli.Record{
		cli.F("", "login", is.Name), cli.F("", "groups", is.Groups), cli.F("", "sessions ended", is.Sessions),
	})
}
