package sites

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/ops/zone"
)

// DNS is the zone with the sites' addresses, and the options of a change.
type DNS struct {
	Zone *zone.Zone // nil: the addresses are named for work by hand
	// Broken is why a configured Zone could not be used: the step fails with it.
	Broken error
	// Dry reads the zone, and names the changes for work by hand.
	Dry bool
	// Force withdraws even the last address of a healthy site, and publishes one that does not
	// answer.
	Force bool
	// AnswerPatience is how long a restored site may take to answer, by each address, before it is
	// published. 0: a minute, two polls of the feed.
	AnswerPatience time.Duration
	// SpreadPatience is how long the zone's servers may take to get a change. 0: half a minute.
	SpreadPatience time.Duration
	Told           func(progress string) // nil: progress is not reported
	Now            func() time.Time      // nil: time.Now
}

func (d DNS) tell(format string, args ...any) {
	if d.Told != nil {
		d.Told(fmt.Sprintf(format, args...))
	}
}

func (d DNS) now() time.Time {
	if d.Now == nil {
		return time.Now()
	}
	return d.Now()
}

// move is a change of one site's addresses.
type move struct {
	Lifecycle
	publish bool
	roster  []masterdb.Responder
	site    masterdb.Responder
	own     []netip.Addr            // those to move
	shared  []string                // those that another active site also has: they stay
	before  map[string][]netip.Addr // by name: the addresses that were withdrawn and not published again
}

func (m *move) verb() string {
	if m.publish {
		return "publish"
	}
	return "withdraw"
}

// plan reads the roster. It returns no addresses and no error if there is nothing to move.
func (w Lifecycle) plan(ctx context.Context, publish bool) (*move, error) {
	m := &move{Lifecycle: w, publish: publish, before: map[string][]netip.Addr{}}
	var err error
	if m.roster, err = w.Store.Responders(ctx); err != nil {
		return nil, err
	}
	at := slices.IndexFunc(m.roster, func(r masterdb.Responder) bool { return r.Name == w.Site })
	if at < 0 {
		return m, nil
	}
	m.site = m.roster[at]
	if w.url != "" {
		m.site.URL = w.url
	}
	addresses := Addresses(m.site)
	if w.only != nil {
		addresses = w.only
	}
	for _, a := range addresses {
		other := slices.IndexFunc(m.roster, func(r masterdb.Responder) bool {
			return r.Name != w.Site && r.State == db.ResponderActive && slices.Contains(Addresses(r), a)
		})
		if other >= 0 && !publish {
			m.shared = append(m.shared, fmt.Sprintf("%s is %s's, too, and stays", a, m.roster[other].Name))
			continue
		}
		m.own = append(m.own, a)
	}
	if publish {
		list, err := w.Store.Withdrawn(ctx, w.Site)
		if err != nil {
			return nil, err
		}
		for _, was := range list {
			m.before[was.Name] = append(m.before[was.Name], was.Address)
		}
	}
	return m, nil
}

// Addresses returns the site's addresses on the roster; it skips a text that is not an address.
func Addresses(r masterdb.Responder) []netip.Addr {
	var list []netip.Addr
	for _, text := range r.Addresses {
		if a, err := netip.ParseAddr(text); err == nil {
			list = append(list, a.Unmap())
		}
	}
	return list
}

// edit returns the change of one name.
func (m *move) edit(ctx context.Context, name string, own []netip.Addr, judge func([]netip.Addr) error) (zone.Edit, error) {
	if !m.publish {
		return zone.Edit{Remove: own, Judge: judge, Force: m.DNS.Force}, nil
	}
	set, err := m.DNS.Zone.Read(ctx, name)
	if err != nil {
		return zone.Edit{}, err
	}
	return zone.Edit{Add: slices.DeleteFunc(slices.Clone(own), func(a netip.Addr) bool {
		for _, taken := range m.before {
			if slices.Contains(taken, a) { // only to the names from which it was withdrawn
				return !slices.Contains(m.before[name], a)
			}
		}
		return !carries(set, a)
	})}, nil
}

// carries says whether a name may have addresses of that kind: it has some, or none of any kind.
func carries(set zone.Set, address netip.Addr) bool {
	return len(set.Records) == 0 || slices.ContainsFunc(set.Addresses(), func(a netip.Addr) bool { return a.Is4() == address.Is4() })
}

// previewDNS says what the step would do now.
func (w Lifecycle) previewDNS(ctx context.Context, publish bool) (string, error) {
	m, err := w.plan(ctx, publish)
	if err != nil || len(m.own) == 0 || w.DNS.Zone == nil {
		return m.plain(), err
	}
	texts := slices.Clone(m.shared)
	for _, name := range w.DNS.Zone.Names() {
		text := func() string {
			edit, err := m.edit(ctx, name, m.own, m.judge(ctx))
			if err != nil {
				return err.Error()
			}
			change, err := w.DNS.Zone.Plan(ctx, name, edit)
			if err != nil {
				return err.Error()
			}
			return m.describe(change, m.verb())
		}()
		texts = append(texts, text)
	}
	return strings.Join(texts, "; "), nil
}

// plain returns the text for work without a zone.
func (m *move) plain() string {
	if m == nil || len(m.own) == 0 && len(m.shared) == 0 {
		return "none on the roster"
	}
	texts := slices.Clone(m.shared)
	if len(m.own) > 0 {
		texts = append(texts, "by hand: "+m.verb()+" "+listed(m.own)+" in the zone")
	}
	return strings.Join(texts, "; ")
}

// describe describes the change of one name; did is "withdraw", or "withdrawn", ...
func (m *move) describe(c zone.Change, did string) string {
	moved := append(slices.Clone(c.Removed), c.Added...)
	if len(moved) == 0 {
		if m.publish {
			return c.Name + ": nothing to publish"
		}
		return c.Name + ": none of them is there"
	}
	left := map[bool]string{true: "now: ", false: "left: "}[m.publish] + listed(c.Left)
	if len(c.Left) == 0 {
		left = "none left"
	}
	return fmt.Sprintf("%s: %s %s (%s)", c.Name, did, listed(moved), left)
}

func listed(addresses []netip.Addr) string {
	texts := make([]string, len(addresses))
	for i, a := range addresses {
		texts[i] = a.String()
	}
	return strings.Join(texts, ", ")
}

// dns returns the step that changes the zone.
func (w Lifecycle) dns(publish bool) Step {
	plan := "withdraw its addresses"
	if publish {
		plan = "publish its addresses, once it answers by them"
	}
	if w.dnsPlan != "" {
		plan += ": " + w.dnsPlan
	}
	return Step{Name: "dns", Plan: plan, goesOn: true, do: func(ctx context.Context) (string, error) {
		m, err := w.plan(ctx, publish)
		if err != nil || len(m.own) == 0 || w.DNS.Zone == nil {
			if err == nil && len(m.own) > 0 {
				err = w.DNS.Broken
			}
			return m.plain(), err
		}
		if w.DNS.Dry {
			text, err := w.previewDNS(ctx, publish)
			return "by hand (dns.dry): " + text, err
		}
		return m.do(ctx)
	}}
}

// do moves the addresses at each name, and waits until the zone's servers have the change. A fault
// at one name does not stop the others.
func (m *move) do(ctx context.Context) (string, error) {
	own, faults := m.own, []error(nil)
	if m.publish && !m.DNS.Force {
		own, faults = m.answering(ctx)
	}
	texts := slices.Clone(m.shared)
	var holds time.Duration
	judge := m.judge(ctx)
	for _, name := range m.DNS.Zone.Names() {
		if len(own) == 0 {
			break
		}
		change, err := m.one(ctx, name, own, judge)
		if err != nil {
			faults = append(faults, err)
			continue
		}
		holds = max(holds, change.TTL)
		texts = append(texts, m.describe(change, map[bool]string{true: "published", false: "withdrawn"}[m.publish]))
		m.DNS.tell("%s", texts[len(texts)-1])
	}
	if len(own) > 0 && len(faults) < len(m.DNS.Zone.Names()) {
		err := m.spread(ctx)
		if err == nil && !m.publish && len(faults) == 0 {
			err = m.Store.NoteDNS(ctx, masterdb.DNSNote{Site: m.Site, Stage: masterdb.DNSSpread}, m.Act)
		}
		if err != nil {
			faults = append(faults, err)
		} else if holds > 0 && !m.publish {
			texts = append(texts, fmt.Sprintf("resolvers may hold it until %s", m.DNS.now().Add(holds).UTC().Format(time.RFC3339)))
		}
	}
	return strings.Join(texts, "; "), errors.Join(faults...)
}

// one changes one name, with its entries in the audit.
func (m *move) one(ctx context.Context, name string, own []netip.Addr, judge func([]netip.Addr) error) (zone.Change, error) {
	edit, err := m.edit(ctx, name, own, judge)
	if err != nil {
		return zone.Change{}, err
	}
	note := masterdb.DNSNote{Site: m.Site, Publish: m.publish, Name: name}
	begun := false
	change, err := m.DNS.Zone.Apply(ctx, name, edit, func(c zone.Change) error {
		begun, note.Addresses, note.TTL = true, append(slices.Clone(c.Removed), c.Added...), c.TTL
		note.Stage, note.Detail = masterdb.DNSBegin, "then: "+listed(c.Left)
		return m.Store.NoteDNS(ctx, note, m.Act)
	})
	if !begun {
		there := slices.DeleteFunc(slices.Clone(m.before[name]), func(a netip.Addr) bool { return !slices.Contains(edit.Add, a) })
		if err != nil || len(there) == 0 {
			return change, err
		}
		note.Addresses, note.Stage, note.Detail = there, masterdb.DNSDone, "it was there" // nothing is left to publish again
		return change, m.Store.NoteDNS(ctx, note, m.Act)
	}
	note.Stage, note.Detail = masterdb.DNSDone, "now: "+listed(change.Left)
	if err != nil {
		note.Stage, note.Detail = masterdb.DNSFailed, err.Error()
	}
	return change, errors.Join(err, m.Store.NoteDNS(context.WithoutCancel(ctx), note, m.Act))
}

// judge returns a check that refuses to leave a name with only addresses of sites that are not
// well. It asks the sites once, and only if needed.
func (m *move) judge(ctx context.Context) func([]netip.Addr) error {
	survey := sync.OnceValues(func() ([]Status, error) {
		return Surveyor{Timeout: 3 * time.Second, Now: m.DNS.Now}.Survey(ctx, m.Store)
	})
	return func(left []netip.Addr) error {
		owners := map[string]bool{}
		for _, a := range left {
			known := false
			for _, r := range m.roster {
				if slices.Contains(Addresses(r), a) {
					known, owners[r.Name] = true, true
				}
			}
			if !known {
				return nil // an unknown address: the staff put it there
			}
		}
		sites, err := survey()
		if err != nil {
			return err
		}
		if slices.ContainsFunc(sites, func(s Status) bool {
			return owners[s.Name] && s.Name != m.Site && s.State == db.ResponderActive && s.Well()
		}) {
			return nil
		}
		return fmt.Errorf("%s would be left, and none of these sites is well: %w (mend one first, see ocspctl fleet status; --force does it nevertheless)", listed(left), ErrLastSite)
	}
}

// spread waits until the zone's servers have the primary's version.
func (m *move) spread(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, cmp.Or(m.DNS.SpreadPatience, 30*time.Second))
	defer cancel()
	serial, err := m.DNS.Zone.Serial(ctx)
	if err != nil {
		return err
	}
	servers, err := m.DNS.Zone.Servers(ctx)
	if err != nil {
		return err
	}
	var faults []error
	for _, s := range m.DNS.Zone.Await(ctx, servers, serial, func(s zone.State) {
		if s.Err == nil {
			m.DNS.tell("%s has serial %d", s.Server, s.Serial)
		}
	}) {
		if s.Err != nil {
			faults = append(faults, fmt.Errorf("the primary has the change, server %s does not show it: %w", s.Server, s.Err))
		}
	}
	return errors.Join(faults...)
}
