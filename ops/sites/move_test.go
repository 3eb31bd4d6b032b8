package sites

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"ocspfleet/db/masterdb"
	"ocspfleet/integration/testkit/nameserver"
)

func (n *named) site(name string) masterdb.Responder {
	n.Helper()
	roster := must(n.store.Responders(n.Context()))
	return roster[slices.IndexFunc(roster, func(r masterdb.Responder) bool { return r.Name == name })]
}

// A site moves: published where it answers, then withdrawn where it was, then written
// down; broken off anywhere it is run again.
func TestSiteMoves(t *testing.T) {
	t.Parallel()
	n := newNamed(t, nameserver.Bind)
	real := n.url("site-a")
	n.at("site-a", "http://old.example/", "192.0.2.50")
	n.set(ocspName, "192.0.2.50", "192.0.2.2")
	n.set(ocsp6Name, "2001:db8::77")
	crash := errors.New("the power went")
	for _, broken := range []string{"publish", "withdraw", "roster", "none"} {
		run := Lifecycle{Store: n.store, Act: act, DNS: n.dns, before: func(step string) error {
			if step == broken {
				return crash
			}
			return nil
		}}
		err := run.Run(t.Context(), run.Move(n.site("site-a"), real, []netip.Addr{netip.MustParseAddr("127.0.0.1")}), func(Step) {})
		if (broken == "none") != (err == nil) || err != nil && !errors.Is(err, crash) {
			t.Fatalf("before %s: %v", broken, err)
		}
		if moved := fmt.Sprint(n.site("site-a").Addresses) == "[127.0.0.1]"; moved != (err == nil) {
			t.Errorf("broken off before %s: the roster has %v", broken, n.site("site-a"))
		}
	}
	n.want(ocspName, "127.0.0.1", "192.0.2.2")
	n.want(ocsp6Name, "2001:db8::77")
	if got := n.site("site-a"); got.URL != real {
		t.Errorf("%+v", got)
	}

	// Where it does not answer it is not published, and the roster stays.
	short := n.dns
	short.AnswerPatience = 300 * time.Millisecond
	run := Lifecycle{Store: n.store, Act: act, DNS: short}
	steps := run.Move(n.site("site-a"), real, []netip.Addr{netip.MustParseAddr("2001:db8::a")})
	err := run.Run(t.Context(), steps, func(Step) {})
	if err == nil || !strings.Contains(err.Error(), "step 1 of 3 (publish): ") || !strings.Contains(err.Error(), "so it is not published") {
		t.Errorf("%v", err)
	}
	n.want(ocspName, "127.0.0.1", "192.0.2.2")
	if got := n.site("site-a"); fmt.Sprint(got.Addresses) != "[127.0.0.1]" {
		t.Errorf("%+v", got)
	}
	// A suspended one is only withdrawn and written down; the same again is nothing.
	if _, err := n.store.SuspendResponder(t.Context(), "site-a", act); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		steps = run.Move(n.site("site-a"), real, []netip.Addr{netip.MustParseAddr("2001:db8::a")})
		if err := run.Run(t.Context(), steps, func(Step) {}); err != nil {
			t.Fatal(err)
		}
	}
	if len(steps) != 1 || steps[0].Result != "it is so already" {
		t.Errorf("%+v", steps)
	}
	n.want(ocspName, "192.0.2.2")
}
