package main

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"ocspfleet/integration/testkit/devfleet"

	"golang.org/x/crypto/ocsp"
)

// waitLimit is how long the story waits for each result.
const waitLimit = 30 * time.Second

// story is the demo, on a fleet of two sites.
type story struct {
	*transcript
	fleet *devfleet.Fleet
	ours  []responder // site-b's certificates
}

// responder is a site's certificate for one issuer.
type responder struct {
	issuer devfleet.Issuer
	serial string
}

func (s *story) tell(ctx context.Context) error {
	s.dir = s.fleet.Root()
	for _, act := range []func(context.Context) error{s.answers, s.revocation, s.masterKilled, s.masterBack, s.siteRevoked} {
		if err := act(ctx); err != nil {
			return err
		}
	}
	return nil
}

// ask sends a request with openssl and checks the answer.
func (s *story) ask(ctx context.Context, site devfleet.Site, issuer devfleet.Issuer, serial, want string) error {
	said, err := s.run(ctx, "openssl", s.fleet.OpenSSLArgs(site, issuer, serial)...)
	if err != nil {
		return err
	}
	if !strings.Contains(said, "Response verify OK") || !strings.Contains(said, "0x"+serial+": "+want) {
		return fmt.Errorf("asking %s for %s of issuer %s: want a verified %s, got what stands above", site.Name, serial, issuer.Name, want)
	}
	return nil
}

func (s *story) answers(ctx context.Context) error {
	s.title("Both sites answer for both issuers, verified by openssl")
	for n, site := range s.fleet.Sites {
		for _, issuer := range s.fleet.Issuers {
			for _, q := range []struct{ serial, want string }{
				{issuer.Serials.Good[n], "good"},
				{issuer.Serials.Revoked[3+n].Serial, "revoked"},
				{issuer.Serials.NeverIssued[n], "unknown"},
			} {
				if err := s.ask(ctx, site, issuer, q.serial, q.want); err != nil {
					return err
				}
			}
		}
	}
	s.saw("good, revoked and unknown from both sites, RSA and ECDSA issuer, each answer verified")
	return nil
}

// ctl runs the staff's tool.
func (s *story) ctl(ctx context.Context, args ...string) error {
	_, err := s.run(ctx, s.fleet.Ocspctl, append([]string{"--config", s.fleet.OcspctlConfig}, args...)...)
	return err
}

func (s *story) revocation(ctx context.Context) error {
	issuer := s.fleet.Issuers[0]
	serial := issuer.Serials.Good[5]
	s.title("A certificate is revoked at the master")
	for _, site := range s.fleet.Sites {
		if err := s.ask(ctx, site, issuer, serial, "good"); err != nil {
			return err
		}
	}
	if err := s.ctl(ctx, "cert", "revoke", "--issuer", issuer.Name, "--serial", serial, "--reason", "keyCompromise", "--why", "lost laptop", "--apply"); err != nil {
		return err
	}
	if err := s.awaitRevoked(ctx, issuer, serial); err != nil {
		return err
	}
	for _, site := range s.fleet.Sites {
		if err := s.ask(ctx, site, issuer, serial, "revoked"); err != nil {
			return err
		}
	}
	return nil
}

// awaitRevoked waits until both sites answer revoked, and prints how long that took.
func (s *story) awaitRevoked(ctx context.Context, issuer devfleet.Issuer, serial string) error {
	began := time.Now()
	for _, site := range s.fleet.Sites {
		if _, err := s.fleet.AwaitStatus(ctx, site, issuer, serial, ocsp.Revoked, waitLimit); err != nil {
			return err
		}
		s.saw("%s says revoked, seen %d ms after ocspctl had ended", site.Name, time.Since(began).Milliseconds())
	}
	return nil
}

func (s *story) masterKilled(ctx context.Context) error {
	f := s.fleet
	s.title("The master dies: PostgreSQL with all its processes, and ocspsyncd")
	fmt.Fprintf(s.out, "$ kill -9 %d %d\n", f.Master.PIDs.Postgres, f.Master.PIDs.Ocspsyncd)
	for _, part := range []string{"master/ocspsyncd", "master/postgres"} {
		if err := f.Kill(ctx, part); err != nil {
			return err
		}
	}
	if err := devfleet.WriteStatus(s.out, f.Status(ctx)); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	for n, site := range f.Sites {
		for _, issuer := range f.Issuers {
			// None of these was asked for before, so no cache has an answer.
			if err := s.ask(ctx, site, issuer, issuer.Serials.Good[20+n], "good"); err != nil {
				return err
			}
			if err := s.ask(ctx, site, issuer, issuer.Serials.Revoked[6+n].Serial, "revoked"); err != nil {
				return err
			}
		}
	}
	s.saw("with the master dead both sites answer on, also for serials never asked for before")
	return nil
}

func (s *story) masterBack(ctx context.Context) error {
	s.title("The master is started again")
	for _, part := range []string{"master/postgres", "master/ocspsyncd"} {
		if err := s.fleet.Start(ctx, part); err != nil {
			return err
		}
	}
	if err := s.fleet.AwaitReady(ctx, waitLimit); err != nil {
		return err
	}
	if err := devfleet.WriteStatus(s.out, s.fleet.Status(ctx)); err != nil {
		return fmt.Errorf("printing the status: %w", err)
	}
	issuer := s.fleet.Issuers[1]
	serial := issuer.Serials.Good[5]
	if err := s.ctl(ctx, "cert", "revoke", "--issuer", issuer.Name, "--serial", serial, "--reason", "superseded", "--apply"); err != nil {
		return err
	}
	if err := s.awaitRevoked(ctx, issuer, serial); err != nil {
		return err
	}
	s.saw("the master is back and the sites follow it again, by themselves")
	return nil
}

func (s *story) siteRevoked(ctx context.Context) error {
	a, b := s.fleet.Sites[0], s.fleet.Sites[1]
	s.title("The certificates of " + b.Name + " are revoked")
	for _, issuer := range s.fleet.Issuers {
		answer, err := s.fleet.Ask(ctx, b, issuer, issuer.Serials.Good[7])
		if err != nil {
			return err
		}
		if answer.Certificate == nil {
			return errors.New("the answer of site-b holds no responder certificate")
		}
		serial := hex.EncodeToString(answer.Certificate.SerialNumber.Bytes())
		s.ours = append(s.ours, responder{issuer, serial})
	}
	if err := s.ctl(ctx, "responder", "revoke", b.Name, "--reason", "keyCompromise", "--why", "break-in", "--apply"); err != nil {
		return err
	}
	for _, r := range s.ours {
		took, err := s.fleet.AwaitStatus(ctx, a, r.issuer, r.serial, ocsp.Revoked, waitLimit)
		if err != nil {
			return err
		}
		if err := s.ask(ctx, a, r.issuer, r.serial, "revoked"); err != nil {
			return err
		}
		s.saw("%s says revoked for the %s certificate of %s, after %d ms", a.Name, r.issuer.Name, b.Name, took.Milliseconds())
	}
	return s.stopped(ctx, b)
}

// stopped waits until the site answers no request and says why.
func (s *story) stopped(ctx context.Context, site devfleet.Site) error {
	issuer := s.fleet.Issuers[0]
	err := s.fleet.AwaitStopped(ctx, site, issuer, issuer.Serials.Good[7], waitLimit)
	if err != nil {
		return err
	}
	said, err := s.run(ctx, "openssl", s.fleet.OpenSSLArgs(site, issuer, issuer.Serials.Good[7])...)
	if !strings.Contains(said, "Responder Error") {
		return errors.Join(err, fmt.Errorf("asking %s: want an OCSP error, got what stands above", site.Name))
	}
	fmt.Fprintf(s.out, "$ curl -i %s/readyz\n", site.AdminURL)
	response, err := http.Get(site.AdminURL + "/readyz")
	if err != nil {
		return fmt.Errorf("asking %s for readiness: %w", site.Name, err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return fmt.Errorf("asking %s for readiness: %w", site.Name, err)
	}
	fmt.Fprintf(s.out, "HTTP/1.1 %s\n\n%s\n", response.Status, strings.TrimSpace(string(body)))
	if response.StatusCode != http.StatusServiceUnavailable {
		return fmt.Errorf("%s is revoked, but its /readyz says %s", site.Name, response.Status)
	}
	s.saw("%s has stopped by itself: it signs no more, and says why", site.Name)
	return s.ask(ctx, s.fleet.Sites[0], issuer, issuer.Serials.Good[7], "good")
}
