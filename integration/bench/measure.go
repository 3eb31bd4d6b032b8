package main

import (
	"bytes"
	"context"
	cryptorand "crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"math/big"
	"math/rand/v2"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"ocspfleet/db"
	"ocspfleet/db/masterdb"
	"ocspfleet/db/tables"
	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

var act = db.Act{User: "bench", Why: "bench"}

// revocations times commit at the master to `revoked` over HTTP at each site, with
// certificates that were good everywhere before, at moments that have nothing to do
// with the seconds in which others are gathered.
func revocations(ctx context.Context, f *devfleet.Fleet, o options) ([]row, error) {
	last, err := revokeEach(ctx, f, o)
	if err != nil {
		return nil, err
	}
	slices.Sort(last)
	ms := func(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }
	return []row{
		{"commit to revoked at all sites, p50", ms(last[len(last)/2]), "ms"},
		{"commit to revoked at all sites, p90", ms(last[len(last)*90/100]), "ms"},
		{"commit to revoked at all sites, p99", ms(last[len(last)*99/100]), "ms"},
		{"commit to revoked at all sites, worst", ms(last[len(last)-1]), "ms"},
	}, nil
}

// revokeEach returns how long each took, until the last site said so.
func revokeEach(ctx context.Context, f *devfleet.Fleet, o options) ([]time.Duration, error) {
	master, err := masterdb.Open(ctx, tables.Config{DSN: f.Master.DSN})
	if err != nil {
		return nil, err
	}
	defer master.Close()
	issuers, err := master.Issuers(ctx)
	if err != nil {
		return nil, err
	}
	issuer := slices.IndexFunc(f.Issuers, func(i devfleet.Issuer) bool { return i.Name == issuers[0].Name })
	serials := make([]db.Serial, o.revocations)
	for i := range serials {
		if serials[i], err = randomSerial(); err != nil {
			return nil, err
		}
		if _, err := master.Issue(ctx, issuers[0].ID, serials[i], time.Now().Add(24*time.Hour), act); err != nil {
			return nil, err
		}
	}
	var last []time.Duration
	for _, serial := range serials {
		if _, err := awaitAll(ctx, f, f.Issuers[issuer], serial, ocsp.Good); err != nil {
			return nil, err
		}
		time.Sleep(50*time.Millisecond + rand.N(400*time.Millisecond))
		if _, _, err := master.Revoke(ctx, issuers[0].ID, serial, db.ReasonKeyCompromise, time.Time{}, act); err != nil {
			return nil, err
		}
		took, err := awaitAll(ctx, f, f.Issuers[issuer], serial, ocsp.Revoked)
		if err != nil {
			return nil, err
		}
		last = append(last, took)
	}
	return last, nil
}

// askEvery is the pause between two questions to a site: without one the asking
// takes a core, and what is measured has to share the other.
const askEvery = time.Millisecond

// awaitAll asks the sites in turn until each has said status.
func awaitAll(ctx context.Context, f *devfleet.Fleet, issuer devfleet.Issuer, serial db.Serial, status int) (time.Duration, error) {
	request, err := requestFor(f, issuer, serial)
	if err != nil {
		return 0, err
	}
	began := time.Now()
	for _, site := range f.Sites {
		for {
			answer, err := post(ctx, site.URL, request)
			if err == nil && answer.Status == status {
				break
			}
			if time.Since(began) > 10*time.Second {
				return 0, fmt.Errorf("site %s never said status %d of %s: %w", site.Name, status, serial, errors.Join(err, ctx.Err()))
			}
			time.Sleep(askEvery)
		}
	}
	return time.Since(began), nil
}

func requestFor(f *devfleet.Fleet, issuer devfleet.Issuer, serial db.Serial) ([]byte, error) {
	ca, err := f.IssuerCertificate(issuer)
	if err != nil {
		return nil, err
	}
	subject := *ca
	subject.SerialNumber = new(big.Int).SetBytes(serial)
	return ocsp.CreateRequest(&subject, ca, nil)
}

func post(ctx context.Context, where string, request []byte) (*ocsp.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, where, bytes.NewReader(request))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/ocsp-request")
	answer, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer answer.Body.Close()
	var body bytes.Buffer
	if _, err := body.ReadFrom(answer.Body); err != nil {
		return nil, err
	}
	return ocsp.ParseResponse(body.Bytes(), nil)
}

// cachedGET loads a site with GETs of its cached answers, and the yardstick with
// the same requests, in turns.
func cachedGET(ctx context.Context, f *devfleet.Fleet, o options) ([]row, error) {
	const connections = 64
	var requests [][]byte
	site := f.Sites[0]
	where, err := url.Parse(site.URL)
	if err != nil {
		return nil, err
	}
	size := 0
	for _, issuer := range f.Issuers {
		for _, text := range issuer.Serials.Good {
			serial, err := hex.DecodeString(text)
			if err != nil {
				return nil, err
			}
			der, err := requestFor(f, issuer, serial)
			if err != nil {
				return nil, err
			}
			path := "/" + url.PathEscape(base64.StdEncoding.EncodeToString(der))
			requests = append(requests, []byte("GET "+path+" HTTP/1.1\r\nHost: "+where.Host+"\r\n\r\n"))
			answer, err := http.Get("http://" + where.Host + path)
			if err != nil {
				return nil, err
			}
			size = int(answer.ContentLength)
			answer.Body.Close()
		}
	}
	port := o.basePort + 90
	bare, err := startBare(port, size)
	if err != nil {
		return nil, err
	}
	defer func() { _ = bare.Process.Kill(); _ = bare.Wait() }()
	length := time.Duration(o.seconds * float64(time.Second))
	var ours, theirs, rates []float64
	for range o.rounds {
		a, err := load(ctx, site.PIDs.Ocspd, where.Host, requests, connections, length)
		if err != nil {
			return nil, err
		}
		b, err := load(ctx, bare.Process.Pid, fmt.Sprintf("127.0.0.1:%d", port), requests, connections, length)
		if err != nil {
			return nil, err
		}
		ours, theirs, rates = append(ours, a.CPU), append(theirs, b.CPU), append(rates, float64(a.Requests)/a.Seconds)
	}
	return []row{
		{"cached GET, server CPU", median(ours), "us/request"},
		{"bare net/http + chi, server CPU", median(theirs), "us/request"},
		{"cached GET / bare", median(ours) / median(theirs), "ratio"},
		{"cached GET, rate (client on the same cores)", median(rates), "requests/s"},
	}, nil
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

// imports times ocspctl cert import of a new index.txt, and then what the sites
// hold of it.
func imports(ctx context.Context, f *devfleet.Fleet, o options) ([]row, error) {
	var index strings.Builder
	for range o.certs {
		serial, err := randomSerial()
		if err != nil {
			return nil, err
		}
		fmt.Fprintf(&index, "V\t401231235959Z\t\t%s\tunknown\t/CN=x\n", strings.ToUpper(serial.String()))
	}
	path := filepath.Join(f.Dir(), "bench-index.txt")
	if err := os.WriteFile(path, []byte(index.String()), 0o600); err != nil {
		return nil, err
	}
	before, err := residentMB(f.Sites[0].PIDs.Ocspd)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	if out, err := f.Ctl(ctx, "cert", "import", "--from", "openssl-index", "--issuer", f.Issuers[0].Name, path, "--apply"); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	imported := time.Since(began)
	if err := awaitPosition(ctx, f); err != nil {
		return nil, err
	}
	followed := time.Since(began)
	after, err := residentMB(f.Sites[0].PIDs.Ocspd)
	if err != nil {
		return nil, err
	}
	return []row{
		{"certificates imported", float64(o.certs), ""},
		{"import, file to commit", float64(o.certs) / imported.Seconds(), "certificates/s"},
		{"import, file to both sites", float64(o.certs) / followed.Seconds(), "certificates/s"},
		{"ocspd resident before", before, "MiB"},
		{"ocspd resident after", after, "MiB"},
	}, nil
}

// awaitPosition waits until every site's database is where the master's is and
// its responder is ready.
func awaitPosition(ctx context.Context, f *devfleet.Fleet) error {
	master, err := masterdb.Open(ctx, tables.Config{DSN: f.Master.DSN})
	if err != nil {
		return err
	}
	defer master.Close()
	want, err := master.Head(ctx)
	if err != nil {
		return err
	}
	for _, site := range f.Sites {
		for {
			answer, err := http.Get(site.AdminURL + "/metrics")
			if err == nil {
				var body bytes.Buffer
				_, err = body.ReadFrom(answer.Body)
				answer.Body.Close()
				if err == nil && metric(body.String(), "ocspd_index_position") >= float64(want.Position) {
					break
				}
			}
			select {
			case <-ctx.Done():
				return ctx.Err()
			case <-time.After(10 * time.Millisecond):
			}
		}
	}
	return nil
}

func metric(text, name string) float64 {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, name+" "); ok {
			var value float64
			if _, err := fmt.Sscan(rest, &value); err == nil {
				return value
			}
		}
	}
	return -1
}

func randomSerial() (db.Serial, error) {
	serial := make([]byte, 16)
	_, err := cryptorand.Read(serial)
	serial[0] = 0x20 | serial[0]&0x1f
	return serial, err
}
