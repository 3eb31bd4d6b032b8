// Package garbage throws at a site whatever the internet might, for as long as
// one likes, and judges what becomes of the site: never an HTTP 5xx, never a panic
// or an internal error, good clients served all the time, memory and goroutines
// as they were. It trusts the site's own metrics for the latter two.
package garbage

import (
	"bufio"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
	"golang.org/x/sync/errgroup"
)

// Report is what a run found.
type Report struct {
	Attacks          int
	Canaries         int           // good and revoked certificates asked for meanwhile, all answered rightly
	Slowest          time.Duration // of the canaries
	MemoryFirst      float64       // resident, in octets: median of the second quarter of the run
	MemoryLast       float64       // of the last quarter
	GoroutinesBefore float64
	GoroutinesAfter  float64
}

const (
	attackers = 8
	// memorySlack is what the resident memory may wander: the collector lets the
	// heap, 64 MiB of full cache, double before it runs, and gives back when it likes.
	memorySlack = 32 << 20
	// goroutineSlack is for what was under way when the counts were taken.
	goroutineSlack = 10
)

// Run attacks a site for so long. Its error says what is wrong with the site.
func Run(ctx context.Context, f *devfleet.Fleet, site devfleet.Site, length time.Duration) (Report, error) {
	var r Report
	before, err := metrics(ctx, site)
	if err != nil {
		return r, err
	}
	r.GoroutinesBefore = before["go_goroutines"]
	good, err := requests(f)
	if err != nil {
		return r, err
	}
	if err := fill(ctx, site, good); err != nil {
		return r, err
	}
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	var wait sync.WaitGroup
	var mu sync.Mutex
	var faults []error
	for range attackers {
		a := newAttacker(site, good)
		wait.Go(func() {
			n, err := a.run(ctx)
			mu.Lock()
			defer mu.Unlock()
			r.Attacks += n
			if err != nil {
				faults = append(faults, err)
				cancel()
			}
		})
	}
	memory, err := r.watch(ctx, f, site)
	cancel()
	wait.Wait()
	if err = errors.Join(append(faults, err)...); err != nil {
		return r, err
	}
	return r, r.judge(context.WithoutCancel(ctx), site, before, memory)
}

// fill fills the cache of signatures to its bound, which it may reach: what grows
// after that is a leak.
func fill(ctx context.Context, site devfleet.Site, good [][]byte) error {
	before, err := metrics(ctx, site)
	if err != nil {
		return err
	}
	limit := time.Now().Add(2 * time.Minute)
	for now := before; now["ocspd_cache_evictions_total"] == before["ocspd_cache_evictions_total"]; {
		if time.Now().After(limit) {
			return fmt.Errorf("filling the cache: %.0f octets after 2 minutes, and nothing was driven out", now["ocspd_cache_bytes"])
		}
		var group errgroup.Group
		for range attackers {
			a := newAttacker(site, good)
			group.Go(func() error {
				defer a.client.CloseIdleConnections()
				for range 500 {
					if err := a.serial(ctx); err != nil {
						return err
					}
				}
				return nil
			})
		}
		if err := group.Wait(); err != nil {
			return err
		}
		if now, err = metrics(ctx, site); err != nil {
			return err
		}
	}
	return nil
}

func newAttacker(site devfleet.Site, good [][]byte) *attacker {
	return &attacker{
		address: strings.TrimPrefix(site.URL, "http://"), good: good,
		client: &http.Client{Timeout: 20 * time.Second, Transport: &http.Transport{}},
	}
}

// watch asks for certificates and looks at the memory until ctx ends.
func (r *Report) watch(ctx context.Context, f *devfleet.Fleet, site devfleet.Site) ([]float64, error) {
	var memory []float64
	ticker := time.NewTicker(250 * time.Millisecond)
	defer ticker.Stop()
	for n := 0; ; n++ {
		select {
		case <-ctx.Done():
			return memory, nil
		case <-ticker.C:
		}
		issuer := f.Issuers[n%len(f.Issuers)]
		serial, want := issuer.Serials.Good[0], ocsp.Good
		if n%4 >= 2 {
			serial, want = issuer.Serials.Revoked[0].Serial, ocsp.Revoked
		}
		began := time.Now()
		answer, err := f.Ask(ctx, site, issuer, serial)
		if ctx.Err() != nil {
			return memory, nil
		}
		if err != nil {
			return nil, fmt.Errorf("a good client after %d others: %w", r.Canaries, err)
		}
		if answer.Status != want {
			return nil, fmt.Errorf("serial %s: %s", serial, devfleet.StatusName(answer.Status))
		}
		r.Canaries++
		r.Slowest = max(r.Slowest, time.Since(began))
		now, err := metrics(ctx, site)
		if ctx.Err() != nil {
			return memory, nil
		}
		if err != nil {
			return nil, err
		}
		memory = append(memory, now["process_resident_memory_bytes"])
	}
}

// judge compares what was with what is, once the site has come to rest.
func (r *Report) judge(ctx context.Context, site devfleet.Site, before map[string]float64, memory []float64) error {
	if len(memory) < 8 {
		return fmt.Errorf("judging the memory: %d samples are too few, run it longer", len(memory))
	}
	r.MemoryFirst, r.MemoryLast = median(memory[len(memory)/4:len(memory)/2]), median(memory[len(memory)*3/4:])
	var after map[string]float64
	for limit := time.Now().Add(30 * time.Second); ; time.Sleep(200 * time.Millisecond) { // half-open ones end by timeout
		var err error
		if after, err = metrics(ctx, site); err != nil {
			return err
		}
		if r.GoroutinesAfter = after["go_goroutines"]; r.GoroutinesAfter <= r.GoroutinesBefore+goroutineSlack || time.Now().After(limit) {
			break
		}
	}
	var faults []error
	if r.GoroutinesAfter > r.GoroutinesBefore+goroutineSlack {
		faults = append(faults, fmt.Errorf("%.0f goroutines before, %.0f after", r.GoroutinesBefore, r.GoroutinesAfter))
	}
	if r.MemoryLast > r.MemoryFirst+memorySlack {
		faults = append(faults, fmt.Errorf("resident memory grew from %.1f to %.1f MiB", r.MemoryFirst/(1<<20), r.MemoryLast/(1<<20)))
	}
	for _, name := range []string{"ocspd_panics_total", `ocspd_responses_total{status="internal_error"}`, "process_start_time_seconds"} {
		if _, there := before[name]; !there || before[name] != after[name] {
			faults = append(faults, fmt.Errorf("%s was %v and is %v", name, before[name], after[name]))
		}
	}
	return errors.Join(faults...)
}

func median(values []float64) float64 {
	sorted := slices.Clone(values)
	slices.Sort(sorted)
	return sorted[len(sorted)/2]
}

// requests are well-formed ones of both issuers: good, revoked, never issued.
func requests(f *devfleet.Fleet) ([][]byte, error) {
	var all [][]byte
	for _, issuer := range f.Issuers {
		ca, err := f.IssuerCertificate(issuer)
		if err != nil {
			return nil, err
		}
		serials := slices.Concat(issuer.Serials.Good[:20], issuer.Serials.NeverIssued)
		for _, r := range issuer.Serials.Revoked[:10] {
			serials = append(serials, r.Serial)
		}
		for _, serial := range serials {
			octets, err := hex.DecodeString(serial)
			if err != nil {
				return nil, fmt.Errorf("reading serial %q: %w", serial, err)
			}
			for _, hash := range []crypto.Hash{crypto.SHA1, crypto.SHA256} {
				der, err := ocsp.CreateRequest(&x509.Certificate{SerialNumber: new(big.Int).SetBytes(octets)}, ca, &ocsp.RequestOptions{Hash: hash})
				if err != nil {
					return nil, fmt.Errorf("making a request: %w", err)
				}
				all = append(all, der)
			}
		}
	}
	return all, nil
}

// client reads metrics; it is not among those who are attacked.
var client = &http.Client{Timeout: 10 * time.Second}

// metrics are the samples of a site, by name with labels.
func metrics(ctx context.Context, site devfleet.Site) (map[string]float64, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, site.AdminURL+"/metrics", nil)
	if err != nil {
		return nil, fmt.Errorf("reading the metrics of %s: %w", site.Name, err)
	}
	response, err := client.Do(r)
	if err != nil {
		return nil, fmt.Errorf("reading the metrics of %s: %w", site.Name, err)
	}
	defer response.Body.Close()
	values := make(map[string]float64)
	lines := bufio.NewScanner(response.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if v, err := strconv.ParseFloat(value, 64); err == nil {
			values[name] = v
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("reading the metrics of %s: %w", site.Name, err)
	}
	return values, nil
}
