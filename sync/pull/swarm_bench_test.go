package pull_test

import (
	"crypto/rand"
	"fmt"
	"net"
	"testing"
	"time"

	"ocspfleet/db"
)

// A month of the seed's CA at sites that prefer peers: what goes between the master and
// all of them, and between them. One site has only the master. Those that it
// does not feed visit it each four hours, by a connection of their own.
func BenchmarkSwarm(b *testing.B) {
	for _, n := range []int{1, 2, 4, 8, 16} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			m := newMaster(b)
			m.issue(b, 1)
			m.sealed(b)
			w := newSwarm(b, n, m, nil)
			const events = 60
			var master, all [3]float64 // octets of a confirmation, a certificate, a revocation
			for b.Loop() {
				serials := make([]db.Serial, events)
				for kind, do := range []func(int) error{
					func(int) error {
						time.Sleep(2 * time.Millisecond) // the head's time is in milliseconds
						_, _, err := m.store.Publisher.Heartbeat(b.Context(), -1)
						return err
					},
					func(i int) error {
						serials[i] = make([]byte, 16)
						_, _ = rand.Read(serials[i])
						serials[i][0] = serials[i][0]&0x7f | 0x40
						_, err := m.store.Master.Issue(b.Context(), 1, serials[i], time.Now().Add(90*24*time.Hour), act)
						return err
					},
					func(i int) error {
						_, _, err := m.store.Master.Revoke(b.Context(), 1, serials[i], db.ReasonSuperseded, time.Time{}, act)
						return err
					},
				} {
					near, far := w.line(), w.between()
					w.tells(b, events, func(i int) {
						if err := do(i); err != nil {
							b.Fatal(err)
						}
					})
					master[kind] = float64(w.line()-near) / events
					all[kind] = float64(w.line()-near+w.between()-far) / events
				}
			}
			checkIns := 0.0
			if n > 2 {
				checkIns = float64(n-2) * month * 6 * checkIn(b, m)
			}
			idle := func(o [3]float64) float64 { return month * minutes * o[0] }
			busy := func(o [3]float64) float64 {
				return month * (seedsIssued*o[1] + seedsRevoked*o[2] + seedsBeats()*o[0])
			}
			b.ReportMetric(master[1], "octets/certificate-master")
			b.ReportMetric((idle(master)+checkIns)/1e6, "idle-MB/month-master")
			b.ReportMetric((busy(master)+checkIns)/1e6, "busy-MB/month-master")
			b.ReportMetric(checkIns/1e6, "checkIns-MB/month")
			b.ReportMetric((busy(all)+checkIns)/1e6/float64(n), "busy-MB/month-site")
		})
	}
}

// checkIn is what a check-in costs: a connection, the clock, the key set.
func checkIn(b *testing.B, m *master) float64 {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	line := &counted{Listener: l}
	id := identity(b)
	client := askedAt(b, line, m.store, m.latest, identity(b), id, nil, true)
	if _, err := client.Clock(b.Context()); err != nil {
		b.Fatal(err)
	}
	if _, err := client.Keys(b.Context()); err != nil {
		b.Fatal(err)
	}
	client.Close()
	return float64(line.octets.Load())
}
