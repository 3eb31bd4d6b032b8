package sites

import (
	"fmt"
	"strings"
	"testing"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/dbtest"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// A login that is no replica's, or a superuser's, is never touched, whatever the
// roster says.
func TestOnlyAReplicasLoginIsClosed(t *testing.T) {
	w := newWithdrawn(t)
	own := strings.ReplaceAll(w.site, "-", "_")
	for _, login := range []string{"postgres", fmt.Sprintf("operator_%s", strings.TrimPrefix(w.site, "site-"))} {
		if _, err := w.store.SetSiteLogin(t.Context(), w.site, login, act); err != nil {
			t.Fatal(err)
		}
		if access, err := w.store.SiteAccess(t.Context(), w.site); err != nil || access.Login != own {
			t.Errorf("%s: %+v, %v", login, access, err)
		}
		if _, err := w.store.SuspendResponder(t.Context(), w.site, act); err != nil {
			t.Fatal(err)
		}
		if _, err := w.store.OpenSiteLogin(t.Context(), w.site, false, act); err != nil {
			t.Error(err)
		}
		var open bool
		if err := dbtest.Connect(t, w.super).QueryRow(t.Context(), "select rolcanlogin from pg_roles where rolname = $1", login).Scan(&open); err != nil || !open {
			t.Errorf("%s was closed: %v", login, err)
		}
		if _, err := w.store.CutSite(t.Context(), w.site); err != nil {
			t.Error(err)
		}
		if _, err := w.store.RestoreResponder(t.Context(), w.site, act); err != nil { // by an operator, who is still there
			t.Fatal(err)
		}
	}
}

// A site makes a slot with a name of its own and streams from it: it goes with the site,
// and whoever streams from another's slot takes none with it.
func TestSlotsThatASiteWasSeenToStreamFromGoWithIt(t *testing.T) {
	w := newWithdrawn(t)
	ctx := t.Context()
	publisher := fmt.Sprintf("publisher_%s", strings.TrimPrefix(w.site, "site-"))
	super := must(masterdb.Open(ctx, tables.Config{DSN: w.super}))
	defer super.Close()
	if err := super.CreateLogin(ctx, publisher, db.RolePublisher, password, act); err != nil {
		t.Fatal(err)
	}
	_, login := openAs(t, w.super, publisher)
	daemon := dbtest.Open(t, login).Publisher
	others, hidden, standby := db.SlotPrefix("site-other")+"1790000000000", "hidden_"+publisher, "standby_"+publisher
	for _, slot := range []string{others, hidden, standby} {
		dbtest.Exec(t, w.super, "select pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
	}
	if changed, err := super.AllowSlot(ctx, standby, true, act); err != nil || !changed {
		t.Fatal(changed, err)
	}
	holders := func() map[string]masterdb.SlotState {
		t.Helper()
		list := map[string]masterdb.SlotState{}
		for _, s := range must(w.store.MasterState(ctx)).Slots {
			list[s.Name] = s
		}
		return list
	}
	if is := holders(); is[hidden].Site != "" || is[hidden].Allowed || is[others].Site != "site-other" || !is[standby].Allowed {
		t.Errorf("before anybody streams: %+v", is)
	}
	for _, slot := range []string{others, hidden, standby} {
		cfg := must(pgconn.ParseConfig(w.login))
		cfg.RuntimeParams["replication"] = "database"
		stream := must(pgconn.ConnectConfig(ctx, cfg))
		stream.Frontend().SendQuery(&pgproto3.Query{String: "START_REPLICATION SLOT " + slot + " LOGICAL 0/0 (proto_version '1', publication_names 'ocspfleet')"})
		if err := stream.Frontend().Flush(); err != nil {
			t.Fatal(err)
		}
		for !holders()[slot].Active {
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
		if err := daemon.SawSlots(ctx); err != nil {
			t.Fatal(err)
		}
		if err := stream.Close(ctx); err != nil {
			t.Fatal(err)
		}
		for holders()[slot].Active {
			if ctx.Err() != nil {
				t.Fatal(ctx.Err())
			}
		}
	}
	if is := holders(); is[hidden].Site != w.site || is[others].Site != "site-other" || is[standby].Site != "" {
		t.Errorf("seen: %+v", is)
	}
	if _, err := w.store.RevokeResponder(ctx, w.site, db.ReasonKeyCompromise, act); err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.OpenSiteLogin(ctx, w.site, false, act); err != nil {
		t.Fatal(err)
	}
	if n, err := w.store.DropSiteSlots(ctx, w.site); err != nil || n != 2 { // and the one by its name
		t.Errorf("%d slots dropped, %v", n, err)
	}
	if is := holders(); len(is) != 2 || is[others].Site != "site-other" || !is[standby].Allowed {
		t.Errorf("left: %+v", is)
	}
}
