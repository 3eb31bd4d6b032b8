package integration

import (
	"context"
	"crypto"
	"crypto/x509"
	"fmt"
	"net/http"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// patience is for what takes a second and may take longer on a busy machine.
const patience = 30 * time.Second

func revoke(t *testing.T, f *devfleet.Fleet, issuer devfleet.Issuer, serial string) {
	t.Helper()
	if out, err := f.Ctl(t.Context(), "cert", "revoke", "--issuer", issuer.Name, "--serial", serial, "--reason", "keyCompromise", "--apply"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestARevocationIsSeenByEverySiteWithinASecond(t *testing.T) {
	f := shared(t)
	var took []time.Duration
	for round := range 5 {
		issuer := f.Issuers[round%2]
		serial := fresh(t, issuer)
		for _, site := range lasting(f) {
			await(t, f, site, issuer, serial, ocsp.Good, patience)
		}
		revoke(t, f, issuer, serial)
		committed := time.Now()
		for _, site := range lasting(f) {
			await(t, f, site, issuer, serial, ocsp.Revoked, patience)
		}
		took = append(took, time.Since(committed))
	}
	slices.Sort(took)
	// The middle one: a busy machine may delay one of them.
	if took[len(took)/2] > time.Second {
		t.Errorf("from the end of ocspctl to revoked at both sites: %v", took)
	}
}

func TestACertificateIssuedNowIsGoodEverywhere(t *testing.T) {
	f := shared(t)
	issuer := f.Issuers[1]
	const serial = "6b1d0000000000000000000000000001"
	for _, site := range lasting(f) {
		await(t, f, site, issuer, serial, ocsp.Unknown, patience)
	}
	if out, err := f.Ctl(t.Context(), "cert", "issue", "--issuer", issuer.Name, "--serial", serial, "--not-after", "2039-12-31T23:59:59Z", "--apply"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, site := range lasting(f) {
		await(t, f, site, issuer, serial, ocsp.Good, patience)
	}
}

func TestWithoutPlanAppliedNothingIsRevoked(t *testing.T) {
	f := shared(t)
	issuer, serial := f.Issuers[0], fresh(t, f.Issuers[0])
	if out, err := f.Ctl(t.Context(), "cert", "revoke", "--issuer", issuer.Name, "--serial", serial, "--reason", "superseded"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	marker := fresh(t, issuer)
	revoke(t, f, issuer, marker) // when this one has come, the other would have, too
	await(t, f, f.Sites[0], issuer, marker, ocsp.Revoked, patience)
	await(t, f, f.Sites[0], issuer, serial, ocsp.Good, patience)
}

func TestTheMasterDiesAndTheSitesAnswerOn(t *testing.T) {
	f := shared(t)
	for _, part := range []string{"master/ocspsyncd", "master/postgres"} {
		if err := f.Kill(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	for _, site := range lasting(f) {
		for _, issuer := range f.Issuers {
			await(t, f, site, issuer, fresh(t, issuer), ocsp.Good, time.Second)
			await(t, f, site, issuer, freshRevoked(t, issuer), ocsp.Revoked, time.Second)
			await(t, f, site, issuer, issuer.Serials.NeverIssued[1], ocsp.Unknown, time.Second)
		}
		if err := f.Ready(t.Context(), site.Name+"/ocspd"); err != nil {
			t.Errorf("with the master dead: %v", err)
		}
	}
	for _, part := range []string{"master/postgres", "master/ocspsyncd"} {
		if err := f.Start(t.Context(), part); err != nil {
			t.Fatal(err)
		}
	}
	whole(t, f, patience, "master/ocspsyncd")
	issuer, serial := f.Issuers[0], fresh(t, f.Issuers[0])
	revoke(t, f, issuer, serial)
	for _, site := range lasting(f) {
		await(t, f, site, issuer, serial, ocsp.Revoked, 2*patience)
	}
	whole(t, f, patience)
}

func TestASitesDatabaseDiesAndComesBack(t *testing.T) {
	f := shared(t)
	a, issuer := f.Sites[0], f.Issuers[0]
	if err := f.Kill(t.Context(), "site-a/postgres"); err != nil {
		t.Fatal(err)
	}
	await(t, f, a, issuer, fresh(t, issuer), ocsp.Good, time.Second)
	await(t, f, a, issuer, freshRevoked(t, issuer), ocsp.Revoked, time.Second)
	missed := fresh(t, issuer)
	revoke(t, f, issuer, missed)
	await(t, f, f.Sites[1], issuer, missed, ocsp.Revoked, patience)
	await(t, f, a, issuer, missed, ocsp.Good, time.Second) // it cannot know yet, and is not older than it may be
	if err := f.Start(t.Context(), "site-a/postgres"); err != nil {
		t.Fatal(err)
	}
	await(t, f, a, issuer, missed, ocsp.Revoked, 2*patience)
	whole(t, f, patience, "site-a/ocspd", "site-a/ocspsyncd")
}

func TestAKilledResponderAnswersWithinTwoSecondsOfItsStart(t *testing.T) {
	f := shared(t)
	b, issuer := f.Sites[1], f.Issuers[1]
	if err := f.Kill(t.Context(), "site-b/ocspd"); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	if err := f.Start(t.Context(), "site-b/ocspd"); err != nil {
		t.Fatal(err)
	}
	await(t, f, b, issuer, fresh(t, issuer), ocsp.Good, patience)
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("from the start to the first answer: %v, want 2 s at most", took)
	}
	whole(t, f, patience, "site-b/ocspd")
}

// TestSIGTERMUnderLoadBreaksNoAnswer is a load balancer's view: clients are sent
// to a site until its /readyz says 503, and until then, and for all that is under
// way, no answer is missing or wrong.
func TestSIGTERMUnderLoadBreaksNoAnswer(t *testing.T) {
	f := shared(t)
	b, issuer := f.Sites[1], f.Issuers[1]
	var drained atomic.Bool
	var answers atomic.Int64
	var clients sync.WaitGroup
	broken := make(chan error, 100)
	for n := range 4 {
		der, asked, ca := request(t, f, issuer, issuer.Serials.Good[n], crypto.SHA256)
		ask := ask{b.URL, der, asked, ca, n%2 == 0}
		clients.Go(func() {
			for !drained.Load() {
				if err := ask.once(t.Context()); err != nil {
					broken <- err
					return
				}
				answers.Add(1)
			}
		})
	}
	awaitCount(t, &answers, 50)
	before := f.Sites[1].PIDs.Ocspd
	if err := f.Signal("site-b/ocspd", syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for !drained.Load() {
		// Any other end than 503 means that the listener went before it said so.
		response, err := http.Get(b.AdminURL + "/readyz")
		if err != nil {
			t.Fatalf("the admin listener ended before /readyz was seen to say 503: %v", err)
		}
		response.Body.Close()
		drained.Store(response.StatusCode == http.StatusServiceUnavailable)
	}
	clients.Wait()
	close(broken)
	for err := range broken {
		t.Errorf("a broken answer: %v", err)
	}
	if err := waitGone(t.Context(), f, "site-b/ocspd"); err != nil {
		t.Fatal(err)
	}
	if err := f.Start(t.Context(), "site-b/ocspd"); err != nil {
		t.Fatal(err)
	}
	whole(t, f, patience, "site-b/ocspd")
	if before == f.Sites[1].PIDs.Ocspd {
		t.Errorf("the pid %d was not renewed", before)
	}
}

// ask is one client's request, made again and again.
type ask struct {
	url       string
	der       []byte
	asked, ca *x509.Certificate
	byGET     bool
}

func (a ask) once(ctx context.Context) error {
	call := post
	if a.byGET {
		call = get
	}
	response, body, err := call(ctx, a.url, a.der)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("HTTP status %s", response.Status)
	}
	answer, err := ocsp.ParseResponseForCert(body, a.asked, a.ca)
	if err != nil {
		return err
	}
	if answer.Status != ocsp.Good {
		return fmt.Errorf("status %s", devfleet.StatusName(answer.Status))
	}
	return nil
}

func awaitCount(t *testing.T, count *atomic.Int64, want int64) {
	t.Helper()
	for deadline := time.Now().Add(patience); count.Load() < want; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%d answers in %v, want %d", count.Load(), patience, want)
		}
	}
}

func waitGone(ctx context.Context, f *devfleet.Fleet, part string) error {
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		err := f.Ready(ctx, part)
		if err != nil && strings.Contains(err.Error(), "not running") {
			return nil
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("%s has not ended %v after SIGTERM", part, patience)
		}
	}
}

func TestARevokedSiteStopsAndTheOthersSaySo(t *testing.T) {
	f := shared(t)
	c := f.Sites[2]
	serials := map[string]devfleet.Issuer{}
	for _, issuer := range f.Issuers {
		answer, err := f.Ask(t.Context(), c, issuer, issuer.Serials.Good[0])
		if err != nil {
			t.Fatal(err)
		}
		octets := answer.Certificate.SerialNumber.Bytes()
		if len(octets) != 16 || octets[0] >= 0x80 {
			t.Errorf("the serial %x of a responder certificate is not 16 octets in DER", octets)
		}
		serials[fmt.Sprintf("%x", octets)] = issuer
	}
	// The feed is open to it before.
	asking := []string{
		"--config", f.Path(c.ConfigDir) + "/ocspctl.yaml", "feed", "verify", f.Master.FeedURL + "/feed/checkpoint",
		"--pin", pinAt(t, f, filepath.Dir(f.Path(f.OcspctlConfig))),
	}
	if out, err := exec.CommandContext(t.Context(), f.Path(f.Ocspctl), asking...).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if out, err := f.Ctl(t.Context(), "responder", "revoke", c.Name, "--reason", "keyCompromise", "--apply"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for serial, issuer := range serials {
		for _, site := range lasting(f) {
			await(t, f, site, issuer, serial, ocsp.Revoked, patience)
		}
		if err := f.AwaitStopped(t.Context(), c, issuer, issuer.Serials.Good[1], patience); err != nil {
			t.Error(err)
		}
	}
	// The master serves it no feed any more.
	var said []byte
	for deadline := time.Now().Add(patience); ; time.Sleep(100 * time.Millisecond) {
		var err error
		if said, err = exec.CommandContext(t.Context(), f.Path(f.Ocspctl), asking...).CombinedOutput(); err != nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("the revoked site still gets the feed: %s", said)
		}
	}
	if !strings.Contains(string(said), "/feed/") {
		t.Errorf("the revoked site's question: %s", said)
	}
	if err := f.Ready(t.Context(), "site-c/ocspd"); err == nil || !strings.Contains(err.Error(), "no signing identity") {
		t.Errorf("/readyz of the revoked site: want the reason, got %v", err)
	}
	for _, site := range lasting(f) {
		await(t, f, site, f.Issuers[0], f.Issuers[0].Serials.Good[0], ocsp.Good, patience)
	}
}
