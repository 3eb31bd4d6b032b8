package settings

import (
	"errors"

	"ocspfleet/hsm/tokenconf"
	"ocspfleet/ops/config"
)

// Token returns the settings for opening a token: ocspctl makes one call at a time.
func Token(t config.Token, stateDir string) (tokenconf.Config, error) {
	if t.URI == "" {
		return tokenconf.Config{}, errors.New("the configuration has no token: set token.uri")
	}
	at := t.Config(stateDir)
	at.MaxSessions = 2
	return at, nil
}
