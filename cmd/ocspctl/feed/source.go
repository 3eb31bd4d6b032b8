package feed

import (
	"errors"
	"net/url"

	"ocspfleet/cmd/internal/cli"
	"ocspfleet/sync/feedhttp"
)

// asking has the flags for a source of the feed at a URL.
type asking struct {
	Pin    string `flag:"pin" help:"the <PIN> of the source's TLS key, for a URL"`
	TLSKey string `flag:"tls-key" help:"ask with the TLS key in <FILE> (default: feed.tls_key_file of the configuration)"`
}

// dial makes the client of a source, which the pin of its TLS key identifies.
func (a asking) dial(u *url.URL) (*feedhttp.Client, error) {
	pin, err := feedhttp.ParsePin(a.Pin)
	if err != nil {
		return nil, cli.Usagef("--pin: %v", err)
	}
	if a.TLSKey == "" {
		return nil, errors.New("there is no TLS key to ask with: set feed.tls_key_file, or give --tls-key (ocspctl key pin makes one)")
	}
	identity, err := feedhttp.LoadIdentity(a.TLSKey)
	if err != nil {
		return nil, err
	}
	return feedhttp.NewClient(feedhttp.ClientConfig{URL: "https://" + u.Host, Pin: pin, Identity: identity})
}
