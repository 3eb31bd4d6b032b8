package main

import (
	"cmp"
	"fmt"
	"log/slog"

	"ocspfleet/cmd/internal/boot"
	"ocspfleet/cmd/internal/front"
	"ocspfleet/db/tables"
	"ocspfleet/hsm"
	"ocspfleet/ops/config"
	"ocspfleet/signer"
)

// settings is the configuration file, and the values made from it.
type settings struct {
	config.Ocspd `yaml:",inline"`
}

func newSettings() settings {
	c := settings{config.DefaultOcspd()}
	c.StateDir, c.MaxHalfOpen = cmp.Or(boot.StateDirectory(), c.StateDir), front.DefaultHalfOpen
	return c
}

// Check adds the checks that need the packages which use the keys.
func (c *settings) Check(report func(key, problem string)) {
	c.Ocspd.Check(report)
	boot.CheckListeners(report, c.Admin, boot.Listener{Key: "listen", Address: c.Listen})
	checkMark(c.Feed, report)
	for i, proxy := range c.TrustedProxies {
		if _, err := proxyOf(proxy); err != nil {
			report(fmt.Sprintf("trusted_proxies[%d]", i), err.Error())
		}
	}
}

func (c *settings) hsm(log *slog.Logger, metrics *hsm.Metrics) []hsm.Config {
	var all []hsm.Config
	for _, token := range c.Tokens() {
		at := token.Config(c.StateDir)
		at.MaxSessions, at.SignTimeout = token.MaxSessions, token.SignTimeout
		all = append(all, hsm.Config{Config: at, Logger: log, Metrics: metrics})
	}
	return all
}

// front makes the front of the public listener.
func (c *settings) front(log *slog.Logger, metrics *front.Metrics) (*front.Front, error) {
	cfg := front.Config{Max: c.MaxConnections, HalfOpen: c.MaxHalfOpen, Metrics: metrics, Log: log}
	for _, trusted := range c.TrustedProxies {
		proxy, err := proxyOf(trusted)
		if err != nil {
			return nil, fmt.Errorf("reading the trusted proxies: %w", err)
		}
		cfg.Proxies = append(cfg.Proxies, proxy)
	}
	return front.New(cfg), nil
}

func proxyOf(p config.TrustedProxy) (front.Proxy, error) {
	if p.ProxyProtocol == (p.Header != "") {
		return front.Proxy{}, fmt.Errorf("wants either proxy_protocol: true or a header")
	}
	return front.NewProxy(p.Address, p.Header)
}

func (c *settings) database() tables.Config {
	return tables.Config{DSN: c.Database.DSN, PasswordFile: c.Database.PasswordFile, Application: "ocspd"}
}

func (c *settings) pins() ([]signer.Pin, error) {
	pins := make([]signer.Pin, 0, len(c.Issuers))
	for _, issuer := range c.Issuers {
		der, sum, err := issuer.Read()
		if err != nil {
			return nil, fmt.Errorf("reading the pinned issuers: %w", err)
		}
		pins = append(pins, signer.Pin{Certificate: der, Fingerprint: sum})
	}
	return pins, nil
}
