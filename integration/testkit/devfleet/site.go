package devfleet

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	neturl "net/url"
	"path/filepath"
	"time"

	"ocspfleet/integration/testkit/softhsm"
	"ocspfleet/ops/config"
)

// adminLogin is the superuser of a DSN of pgserver.
func adminLogin(dsn string, port int) (login, error) {
	u, err := neturl.Parse(dsn)
	if err != nil {
		return login{}, fmt.Errorf("reading the superuser's address: %w", err)
	}
	password, known := u.User.Password()
	if !known {
		return login{}, errors.New("reading the superuser's address: it has no password")
	}
	return login{user: u.User.Username(), port: port, password: password}, nil
}

// siteBuild makes one site.
type siteBuild struct {
	fleet *Fleet
	index int
	name  string

	config string            // of the site's ocspctl
	csrs   map[string]string // its requests, by the issuer that each is for
}

// prepare is what the site's operator does alone: database, token, key, request.
func (s *siteBuild) prepare(ctx context.Context, a *authority) error {
	if err := s.prepareSite(ctx, a); err != nil {
		return fmt.Errorf("preparing %s: %w", s.name, err)
	}
	return nil
}

func (s *siteBuild) prepareSite(ctx context.Context, a *authority) error {
	o, port := &s.fleet.opts, Ports(s.fleet.opts.BasePort).postgres(s.index)
	admin, superuserDSN, err := o.makeDatabase(ctx, o.database(s.name, port))
	if err != nil {
		return err
	}
	logins := map[string]login{}
	for program, group := range map[string]string{"ocspd": "responder", "ocspsyncd": "sync", "ocspctl": "operator"} {
		l, err := o.newLogin(s.name, program, program, group, port)
		if err != nil {
			return err
		}
		if err := o.addLogin(ctx, admin, l); err != nil {
			return err
		}
		logins[program] = l
	}
	token, err := softhsm.New(filepath.Join(o.Dir, s.name, "token"), s.name, rand.Text()[:12])
	if err != nil {
		return err
	}
	if err := s.writeConfigs(a, logins, token); err != nil {
		return err
	}
	s.fleet.Sites[s.index] = Site{
		Name: s.name, URL: url(Ports(o.BasePort).public(s.index)), AdminURL: url(Ports(o.BasePort).admin(s.index)),
		DSN: logins["ocspd"].fullDSN(), SuperuserDSN: superuserDSN, Sync: o.mode(s.index),
		Token:     Token{URI: tokenOf(token).URI, Module: token.Module, SoftHSM2Conf: token.Conf},
		ConfigDir: s.fleet.Rel(o.etc(s.name)),
	}
	// A key of each issuer's kind: some clients verify nothing but RSA for an RSA CA.
	s.csrs = map[string]string{}
	for _, kind := range keyKinds {
		label := "ocsp-" + s.name + kind.label
		if _, err := o.ctl(ctx, s.config, "key", "generate", "--kind", kind.responder, "--label", label); err != nil {
			return err
		}
		s.csrs[kind.name] = filepath.Join(o.Dir, s.name, label+".csr")
		if _, err := o.ctl(ctx, s.config, "key", "csr", s.name, "--label", label, "--out", s.csrs[kind.name]); err != nil {
			return err
		}
	}
	return nil
}

func (s *siteBuild) writeConfigs(a *authority, logins map[string]login, token *softhsm.SoftToken) error {
	o, ports := &s.fleet.opts, Ports(s.fleet.opts.BasePort)
	master := login{user: replicaUser(s.index), port: ports.masterPostgres(), passwordFile: filepath.Join(o.etc(s.name), "master.password")}
	feed := s.fleet.siteFeed(s.index)
	var err error
	s.config, err = o.writeConfig(s.name, "ocspctl", "ocspctl at this site: its token and a look at its database.", config.Ocspctl{
		Role: config.RoleSite, Database: logins["ocspctl"].database(), Token: tokenOf(token), StateDir: stateOf(token), Feed: staffFeed(feed),
	})
	if err != nil {
		return err
	}
	daemon := config.Ocspsyncd{
		Role: config.RoleSite, Site: s.name, Sync: o.mode(s.index), Database: logins["ocspsyncd"].database(),
		Recount: 5 * time.Second, Admin: address(ports.sync(s.index)), Feed: feed,
	}
	if daemon.Sync == config.SyncLogical {
		daemon.Master = master.database()
	}
	_, err = o.writeConfig(s.name, "ocspsyncd", "Production wants recount: 1m; here a damaged copy is to be seen to heal.", daemon)
	if err != nil {
		return err
	}
	answers := config.Ocspd{
		Listen: address(ports.public(s.index)), Admin: address(ports.admin(s.index)), Database: logins["ocspd"].database(),
		Token: config.SigningToken{Token: tokenOf(token)}, StateDir: stateOf(token),
		Feed:           config.OcspdFeed{Root: feed.Root, State: filepath.Join(o.etc(s.name), "feed-state"), AskSocket: feed.AskSocket},
		TrustedProxies: []config.TrustedProxy{{Address: "127.0.0.2", ProxyProtocol: true}, {Address: "127.0.0.1", Header: "X-Real-IP"}},
		DrainDelay:     time.Second,
	}
	for _, i := range a.issuers {
		answers.Issuers = append(answers.Issuers, config.Issuer{Certificate: i.file("ca.pem")})
	}
	_, err = o.writeConfig(s.name, "ocspd", `Only these issuers are answered for, whatever the database says; what takes a
# revocation back, and how fresh the copy is, signatures under feed.root say alone. The
# trusted proxies are on this machine (deploy/): HAProxy from 127.0.0.2 by the PROXY
# protocol, nginx by a header. In production drain_delay is the load balancer's check
# interval times its failure count, plus one.`, answers)
	return err
}

// enrol is what the staff does with the site's request.
func (s *siteBuild) enrol(ctx context.Context) error {
	for _, kind := range keyKinds {
		args := []string{"responder", "add", s.name, "--csr", s.csrs[kind.name], "--issuer", kind.name, "--url", s.fleet.Sites[s.index].URL, "--apply"}
		if s.fleet.opts.hasFeed() {
			args = append(args, "--feed-pin", s.fleet.trust.sites[s.index])
		}
		if _, err := s.fleet.Ctl(ctx, args...); err != nil {
			return fmt.Errorf("enrolling %s for issuer %s: %w", s.name, kind.name, err)
		}
	}
	return nil
}
