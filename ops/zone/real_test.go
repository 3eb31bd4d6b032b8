package zone

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"ocspfleet/integration/testkit/nameserver"
)

const (
	first  = "ocsp.example.org."
	second = "ocsp6.example.org."
)

func TestWithdrawAndPublish(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		z := open(t, p.config(t))
		if err := z.CheckKey(t.Context()); err != nil {
			t.Fatal(err)
		}
		p.set(t, first, "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
		before, err := z.Serial(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		out := remove("192.0.2.1", "2001:db8::1", "192.0.2.77") // the last one is not there
		plan, err := z.Plan(t.Context(), first, out)
		if err != nil || fmt.Sprint(plan.Removed) != "[192.0.2.1 2001:db8::1]" {
			t.Errorf("plan %+v, %v", plan, err)
		}
		done, err := apply(z, t.Context(), first, out)
		if err != nil || fmt.Sprint(done) != fmt.Sprint(plan) || done.TTL != 2*time.Minute || fmt.Sprint(done.Left) != "[192.0.2.2 2001:db8::2]" {
			t.Errorf("done %+v, %v", done, err)
		}
		p.want(t, first, "192.0.2.2", "2001:db8::2")
		after, err := z.Serial(t.Context())
		if err != nil || after == before {
			t.Errorf("serial %d before, %d after, %v", before, after, err)
		}
		again, err := apply(z, t.Context(), first, out)
		if err != nil || !again.None() {
			t.Errorf("again %+v, %v", again, err)
		}
		if serial, err := z.Serial(t.Context()); err != nil || serial != after {
			t.Errorf("nothing was done, and the serial went from %d to %d, %v", after, serial, err)
		}
		if back, err := apply(z, t.Context(), first, add("192.0.2.1", "192.0.2.2")); err != nil || fmt.Sprint(back.Added) != "[192.0.2.1]" {
			t.Errorf("back %+v, %v", back, err)
		}
		p.want(t, first, "192.0.2.1", "192.0.2.2", "2001:db8::2")
		if set, err := z.Read(t.Context(), first); err != nil || set.Records[0].TTL != 2*time.Minute || z.Confirm(t.Context(), set) != nil {
			t.Errorf("read %+v, %v: the TTL of the others is kept, and the primary confirms that", set, err)
		}
	})
}

func TestNameWithoutAddress(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		c := p.config(t)
		c.TTL = 77 * time.Second
		z := open(t, c)
		if none, err := apply(z, t.Context(), second, remove("192.0.2.1")); err != nil || !none.None() {
			t.Errorf("nothing there, nothing done: %+v, %v", none, err)
		}
		if _, err := apply(z, t.Context(), second, add("192.0.2.1", "2001:db8::1")); err != nil {
			t.Error(err)
		}
		p.want(t, second, "192.0.2.1", "2001:db8::1")
		if set, err := z.Read(t.Context(), second); err != nil || longest(set.Records) != 77*time.Second {
			t.Errorf("read %+v, %v", set, err)
		}
		// The last one of a kind goes, the last of all does not.
		if _, err := apply(z, t.Context(), second, remove("192.0.2.1")); err != nil {
			t.Error(err)
		}
		if _, err := apply(z, t.Context(), second, remove("2001:db8::1")); !errors.Is(err, ErrLast) {
			t.Errorf("the last address: %v", err)
		}
		p.want(t, second, "2001:db8::1")
		forced := remove("2001:db8::1")
		forced.Force = true
		if _, err := apply(z, t.Context(), second, forced); err != nil {
			t.Error(err)
		}
		p.want(t, second)
	})
}

// Many desks at once, each with its own address: nobody's work is lost.
func TestDesksDoNotUndoEachOther(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		const desks = 4
		z := open(t, p.config(t))
		var wait sync.WaitGroup
		var want []string
		p.set(t, first, "192.0.2.100", "192.0.2.101", "192.0.2.102", "192.0.2.103", "192.0.2.104")
		for i := range desks {
			come, go_ := fmt.Sprintf("192.0.2.%d", i+1), fmt.Sprintf("192.0.2.%d", 100+i)
			want = append(want, come)
			wait.Go(func() {
				for _, e := range []Edit{add(come), remove(go_)} {
					for try := 0; ; try++ {
						_, err := apply(z, t.Context(), first, e)
						if err == nil {
							break
						}
						if !errors.Is(err, errChanged) || try > 20 {
							t.Error(err)
							return
						}
					}
				}
			})
		}
		wait.Wait()
		p.want(t, first, append(want, "192.0.2.104")...)
	})
}

// A change between reading and writing is seen by the prerequisite, and the edit
// judged anew by what is there then.
func TestChangeMeanwhileIsReadAgain(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		z := open(t, p.config(t))
		p.set(t, first, "192.0.2.1", "192.0.2.2")
		times := 0
		done, err := z.Apply(t.Context(), first, remove("192.0.2.1"), func(Change) error {
			if times++; times == 1 {
				p.set(t, first, "192.0.2.1", "192.0.2.3")
			}
			return nil
		})
		if err != nil || times != 2 || fmt.Sprint(done.Left) != "[192.0.2.3]" {
			t.Errorf("%d times, %+v, %v", times, done, err)
		}
		p.want(t, first, "192.0.2.3")
		p.set(t, first, "192.0.2.1", "192.0.2.2")
		_, err = z.Apply(t.Context(), first, remove("192.0.2.1"), func(Change) error {
			p.set(t, first, "192.0.2.1")
			return nil
		})
		if !errors.Is(err, ErrLast) {
			t.Errorf("the other address went meanwhile: %v", err)
		}
		p.want(t, first, "192.0.2.1")
		if _, err := z.Apply(t.Context(), first, add("192.0.2.9"), func(Change) error { return errors.New("no") }); err == nil || err.Error() != "no" {
			t.Errorf("refused before: %v", err)
		}
		judged := add("192.0.2.5")
		judged.Remove = addrs("192.0.2.1")
		judged.Judge = func([]netip.Addr) error { return errors.New("these are ill") }
		if _, err := apply(z, t.Context(), first, judged); err == nil || !strings.Contains(err.Error(), "withdrawing 192.0.2.1 from "+first+": these are ill") {
			t.Errorf("judged: %v", err)
		}
		p.want(t, first, "192.0.2.1")
		// Somebody writes without end.
		endless := 0
		_, err = z.Apply(t.Context(), first, add("192.0.2.50"), func(Change) error {
			endless++
			p.set(t, first, fmt.Sprintf("192.0.2.%d", 60+endless))
			return nil
		})
		if !errors.Is(err, errChanged) || endless != mostReads {
			t.Errorf("%d times: %v", endless, err)
		}
	})
}

// Each refusal of a real server says what is wrong and where.
func TestRefusalsNameTheFix(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		p.set(t, first, "192.0.2.1", "192.0.2.2")
		for _, c := range []struct {
			name, at string
			change   func(*Config)
			edit     Edit
			want     []string
		}{
			{"wrong key", first, func(c *Config) { c.Key.Name = "other" }, remove("192.0.2.1"), []string{"BADKEY", "it knows no key other. (hmac-sha256)", "dns.key"}},
			{"wrong algorithm", first, func(c *Config) { c.Key.Algorithm = "hmac-sha512" }, remove("192.0.2.1"), []string{"BADKEY", "dns.algorithm"}},
			{"wrong secret", first, func(c *Config) { c.Key.Secret = make([]byte, 32) }, remove("192.0.2.1"), []string{"BADSIG", "dns.secret_file"}},
			{"our clock is behind", first, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(-time.Hour) } }, remove("192.0.2.1"), []string{"BADTIME", "its clock says 20", "NTP"}},
			{"our clock is ahead", first, func(c *Config) { c.Now = func() time.Time { return time.Now().Add(time.Hour) } }, remove("192.0.2.1"), []string{"BADTIME", "NTP"}},
			{"no right to the name", "www.example.org", nil, add("192.0.2.1"), []string{"may not change A and AAAA of www.example.org.", "acl"}},
			{"an alias", "alias.example.org", nil, add("192.0.2.1"), []string{"it is another name for www.example.org.", "dns.names"}},
			{"a wildcard", "a.wild.example.org", nil, remove("192.0.2.99"), []string{"last address"}},
			{"a zone below", "below.example.org", nil, add("192.0.2.1"), []string{"has no authority for below.example.org.", "zone below"}},
			{"another zone", "ocsp.example.net", func(c *Config) { c.Zone, c.Names = "example.net", []string{"ocsp.example.net"} }, add("192.0.2.1"), []string{"REFUSED", "does it serve zone example.net."}},
			{"a zone that is none", first, func(c *Config) { c.Zone, c.Names = first, []string{first} }, remove("192.0.2.1"), []string{"NOTAUTH", "dns.zone"}},
		} {
			t.Run(c.name, func(t *testing.T) {
				config := p.config(t)
				if c.change != nil {
					c.change(&config)
				}
				_, err := apply(open(t, config), t.Context(), c.at, c.edit)
				for _, want := range c.want {
					if err == nil || !strings.Contains(err.Error(), want) {
						t.Errorf("want %q in: %v", want, err)
					}
				}
			})
		}
		p.want(t, first, "192.0.2.1", "192.0.2.2")
		p.want(t, "www.example.org", "192.0.2.80")
	})
}

// A CNAME that comes between reading and writing would swallow an address in silence.
func TestAliasMeanwhileIsNoticed(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		z := open(t, p.config(t))
		alias := Set{Name: "alias.example.org."} // as it was read before
		if err := z.update(t.Context(), alias, nil, nil); !errors.Is(err, errChanged) {
			t.Errorf("%v, want that a prerequisite does not hold", err)
		}
		if err := z.Confirm(t.Context(), Set{Name: first, Records: []Record{{Address: addrs("192.0.2.9")[0]}}}); err == nil || !strings.Contains(err.Error(), "are not as they were read") {
			t.Errorf("confirmed: %v", err)
		}
	})
}

func TestServerDown(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		z := open(t, p.config(t))
		p.set(t, first, "192.0.2.1", "192.0.2.2")
		p.Kill()
		_, err := apply(z, t.Context(), first, remove("192.0.2.1"))
		if err == nil || !strings.Contains(err.Error(), "asking "+p.Address+": by TCP: ") || !strings.Contains(err.Error(), "refused") {
			t.Errorf("%v", err)
		}
	})
}

// A name with more addresses than UDP carries is read and changed by TCP.
func TestManyAddressesGoByTCP(t *testing.T) {
	eachServer(t, func(t *testing.T, p *primary) {
		z := open(t, p.config(t))
		var all []string
		for i := range 60 {
			all = append(all, fmt.Sprintf("192.0.2.%d", i+1))
		}
		p.set(t, first, all...)
		done, err := apply(z, t.Context(), first, remove(all[:30]...))
		if err != nil || len(done.Left) != 30 {
			t.Errorf("%d left, %v", len(done.Left), err)
		}
		p.want(t, first, all[30:]...)
	})
}

// A zone that its server signs is changed like any other, and the server signs that.
func TestSignedZones(t *testing.T) {
	for kind, with := range map[nameserver.Kind][2]string{
		nameserver.Bind: {"type primary;", "type primary; dnssec-policy default; inline-signing yes;"},
		nameserver.Knot: {"    acl: [ocspctl]", "    acl: [ocspctl]\n    dnssec-signing: on"},
	} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			p := startPrimaryWith(t, kind, func(config string) string { return strings.Replace(config, with[0], with[1], 1) })
			z := open(t, p.config(t))
			p.set(t, first, "192.0.2.1", "192.0.2.2")
			if _, err := apply(z, t.Context(), first, remove("192.0.2.1")); err != nil {
				t.Fatal(err)
			}
			p.want(t, first, "192.0.2.2")
			host, port, _ := strings.Cut(p.Address, ":")
			var out []byte
			for end := time.Now().Add(time.Minute); !strings.Contains(string(out), "RRSIG"); time.Sleep(20 * time.Millisecond) {
				if time.Now().After(end) {
					t.Fatalf("it was not signed:\n%s", out)
				}
				var err error
				if out, err = exec.CommandContext(t.Context(), "dig", "+dnssec", "+norecurse", "@"+host, "-p", port, first, "A").Output(); err != nil {
					t.Fatal(err)
				}
			}
			if strings.Contains(string(out), "192.0.2.1\n") {
				t.Errorf("signed:\n%s", out)
			}
			if serial, err := z.Serial(t.Context()); err != nil || serial == 1 {
				t.Errorf("serial %d, %v", serial, err)
			}
		})
	}
}

// bind9 as a secondary of knot: the change is there once its serial is, which takes
// until it asks, each second.
func TestAwaitsTheSecondaries(t *testing.T) {
	if testing.Short() {
		t.Skip("asks name servers")
	}
	t.Parallel()
	dir, err := nameserver.Folder()
	if err != nil {
		t.Fatal(err)
	}
	p := startPrimaryThatTransfers(t)
	host, port, _ := strings.Cut(p.Address, ":")
	other, err := nameserver.Start(t.Context(), nameserver.Bind, dir, fmt.Sprintf(
		`zone "example.org" { type secondary; primaries { %s port %s; }; file "copy"; min-refresh-time 1; max-refresh-time 1; };`, host, port))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(other.Stop)
	c := p.config(t)
	c.Servers = []string{p.Address, other.Address}
	z := open(t, c)
	p.set(t, first, "192.0.2.1", "192.0.2.2")
	if _, err := apply(z, t.Context(), first, remove("192.0.2.1")); err != nil {
		t.Fatal(err)
	}
	serial, err := z.Serial(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	servers, err := z.Servers(t.Context())
	if err != nil || len(servers) != 2 {
		t.Fatalf("%v, %v", servers, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var heard recorder[State]
	for _, s := range z.Await(ctx, servers, serial, heard.told) {
		if s.Err != nil {
			t.Errorf("%s: serial %d, %v", s.Server, s.Serial, s.Err)
		}
	}
	if len(heard.all) != 2 {
		t.Errorf("told %+v", heard.all)
	}
	if set, err := z.readAt(t.Context(), other.Address, first); err != nil || set.Has(addrs("192.0.2.1")[0]) || !set.Has(addrs("192.0.2.2")[0]) {
		t.Errorf("the secondary has %+v, %v", set, err)
	}
	// A serial that never comes is waited for as long as one is willing to.
	short, stop := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer stop()
	for _, s := range z.Await(short, servers, serial+7, func(State) {}) {
		if s.Err == nil || !strings.Contains(s.Err.Error(), "yet (does the primary notify it") && !strings.Contains(s.Err.Error(), "deadline") {
			t.Errorf("%+v", s)
		}
	}
}

// Without dns.servers those of the NS records are asked.
func TestServersAreThoseOfTheNSRecords(t *testing.T) {
	t.Parallel()
	p := startPrimary(t, nameserver.Knot)
	c := p.config(t)
	c.Servers = nil
	z := open(t, c)
	_, z.port, _ = strings.Cut(p.Address, ":")
	servers, err := z.Servers(t.Context())
	if err != nil || len(servers) != 1 || servers[0].Name != "ns1.example.org." || fmt.Sprint(servers[0].Addresses) != "["+p.Address+"]" {
		t.Fatalf("%+v, %v", servers, err)
	}
	if s := z.Ask(t.Context(), servers[0]); s.Err != nil || s.Serial != 1 {
		t.Errorf("%+v", s)
	}
	if s := z.Ask(t.Context(), Server{Name: "ns.nowhere."}); s.Err == nil {
		t.Errorf("%+v", s)
	}
}
