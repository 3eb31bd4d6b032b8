package hsm

import (
	"context"
	"crypto"
	"errors"
	"sync"
)

// Tokens is the tokens of one process, each with its own keys: for example one per issuer, or
// an old and a new HSM side by side while keys move.
type Tokens []*Token

// OpenTokens opens all tokens, or none. Tokens of one library must be in one call or in calls
// one after another; one token cannot be opened twice.
func OpenTokens(ctx context.Context, configs []Config) (Tokens, error) {
	tokens := make(Tokens, 0, len(configs))
	for _, cfg := range configs {
		token, err := Open(ctx, cfg)
		if err != nil {
			return nil, errors.Join(err, tokens.Close())
		}
		tokens = append(tokens, token)
	}
	return tokens, nil
}

// Signer returns the key of pub from the first token that holds it. It returns ErrNoKey only
// when all tokens return it: a lost token may hold the key.
func (r Tokens) Signer(pub crypto.PublicKey) (crypto.Signer, error) {
	var unsure []error
	for _, token := range r {
		key, err := token.Signer(pub)
		if err == nil {
			return key, nil
		}
		if !errors.Is(err, ErrNoKey) {
			unsure = append(unsure, err)
		}
	}
	if len(unsure) > 0 {
		return nil, errors.Join(unsure...)
	}
	return nil, ErrNoKey
}

// Health returns nil, or why signatures cannot be made with some token.
func (r Tokens) Health() error {
	var faults []error
	for _, token := range r {
		faults = append(faults, token.Health())
	}
	return errors.Join(faults...)
}

// Run keeps all connections alive until ctx ends. It returns nil, as Token.Run does.
func (r Tokens) Run(ctx context.Context) error {
	var wg sync.WaitGroup
	faults := make([]error, len(r))
	for i, token := range r {
		wg.Go(func() { faults[i] = token.Run(ctx) })
	}
	wg.Wait()
	return errors.Join(faults...)
}

// Close closes all tokens.
func (r Tokens) Close() error {
	var faults []error
	for _, token := range r {
		faults = append(faults, token.Close())
	}
	return errors.Join(faults...)
}
