package certprofile

import (
	"crypto/rand"
	"math/big"
	"strings"
	"testing"
)

// nextPrime is the first prime above n.
func nextPrime(n *big.Int) *big.Int {
	p := new(big.Int).SetBit(n, 0, 1)
	for p.Add(p, big.NewInt(2)); !p.ProbablyPrime(20); p.Add(p, big.NewInt(2)) {
	}
	return p
}

func prime(t *testing.T) *big.Int {
	t.Helper()
	p, err := rand.Prime(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func TestModuliThatAnybodyCanFactorAreRefused(t *testing.T) {
	p, q := prime(t), prime(t)
	if err := checkModulus(new(big.Int).Mul(p, q)); err != nil {
		t.Errorf("a sound one: %v", err)
	}
	// The primes of ROCA are k*M + (65537^a mod M), M the product of small primes.
	m := big.NewInt(1)
	for _, small := range smallPrimes {
		if small <= 167 {
			m.Mul(m, big.NewInt(small))
		}
	}
	broken := func(a int64) *big.Int {
		residue := new(big.Int).Exp(big.NewInt(65537), big.NewInt(a), m)
		k, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 100))
		if err != nil {
			t.Fatal(err)
		}
		for {
			n := new(big.Int).Mul(k, m)
			if n.Add(n, residue).ProbablyPrime(20) {
				return n
			}
			k.Add(k, big.NewInt(1))
		}
	}
	for want, n := range map[string]*big.Int{
		"a small factor":            new(big.Int).Mul(q, big.NewInt(751)),
		"two primes close together": new(big.Int).Mul(p, nextPrime(new(big.Int).Set(p))),
		"CVE-2017-15361":            new(big.Int).Mul(broken(12345), broken(54321)),
	} {
		if err := checkModulus(n); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("want %q, got %v", want, err)
		}
	}
}
