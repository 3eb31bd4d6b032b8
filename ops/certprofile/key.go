package certprofile

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"errors"
	"fmt"
	"math/big"
)

// CheckKey allows the kinds of key that every OCSP client supports and that a token makes.
func CheckKey(public any) error {
	switch key := public.(type) {
	case *ecdsa.PublicKey:
		if key.Curve == elliptic.P256() || key.Curve == elliptic.P384() {
			return nil
		}
		return fmt.Errorf("curve %s: want P-256 or P-384", key.Curve.Params().Name)
	case *rsa.PublicKey:
		switch bits := key.N.BitLen(); {
		case bits != 2048 && bits != 3072:
			return fmt.Errorf("RSA of %d bits: want 2048 or 3072", bits)
		case key.E < 65537: // BR section 6.1.6
			return fmt.Errorf("RSA exponent %d: want 65537 or more", key.E)
		}
		return checkModulus(key.N)
	}
	return errors.New("want an ECDSA key on P-256 or P-384, or an RSA key of 2048 or 3072 bits")
}

// smallPrimes are those below 752 (BR section 6.1.6: no factor smaller than that).
var smallPrimes = primesBelow(752)

func primesBelow(n int) []int64 {
	var primes []int64
	for i := int64(2); i < int64(n); i++ {
		if big.NewInt(i).ProbablyPrime(0) { // exact below 2^64
			primes = append(primes, i)
		}
	}
	return primes
}

// fermatRounds is the least number of rounds that BR section 6.1.1.3 requires.
const fermatRounds = 100

// checkModulus refuses RSA moduli that are easy to factor: with a small factor, of two primes
// close together (Fermat), or made by the broken generator that is known as ROCA, whose primes are
// powers of 65537 modulo many small primes (Nemec et al., CVE-2017-15361). BR section 6.1.1.3.
func checkModulus(n *big.Int) error {
	rest := new(big.Int)
	for _, p := range smallPrimes {
		if rest.Mod(n, big.NewInt(p)).Sign() == 0 {
			return errors.New("its RSA modulus has a small factor")
		}
	}
	if fermat(n) {
		return errors.New("its RSA modulus is the product of two primes close together")
	}
	if roca(n) {
		return errors.New("its RSA modulus was made by the broken generator of CVE-2017-15361 (ROCA)")
	}
	return nil
}

// fermat says whether a few rounds of Fermat's method factor the modulus.
func fermat(n *big.Int) bool {
	a := new(big.Int).Sqrt(n)
	square, b := new(big.Int), new(big.Int)
	for range fermatRounds {
		a.Add(a, big.NewInt(1))
		square.Sub(square.Mul(a, a), n)
		if b.Sqrt(square); b.Mul(b, b).Cmp(square) == 0 {
			return true
		}
	}
	return false
}

// roca says whether the modulus is in the group that 65537 generates, modulo each of the primes
// from 3 to 167. For a sound modulus this happens by chance in one case of 10^8 and more.
func roca(n *big.Int) bool {
	for _, p := range smallPrimes {
		if p < 3 || p > 167 {
			continue
		}
		residue := new(big.Int).Mod(n, big.NewInt(p)).Int64()
		found := false
		for power, i := int64(1), int64(0); i < p && !found; i++ {
			found = power == residue
			power = power * 65537 % p
		}
		if !found {
			return false
		}
	}
	return true
}
