package chunking

import (
	"math/bits"
	"testing"
)

// REAPI C39: the picture that the published vectors were made of is not ours to
// ship, but they name the hash at each boundary, and that must lack the bits of
// the mask which rules there. Odd lengths end at the second byte of a step.
func TestMasksFitTheVectors(t *testing.T) {
	for _, v := range []struct {
		length int
		hash   uint64
	}{
		// Seed 0, then 666; the ends of the picture are left out.
		{19186, 17583755766661134474},
		{19279, 4098594969649699419},
		{17354, 2365586132076908760},
		{16387, 16009206469796846404},
		{19940, 2473608525189754172},
		{17635, 17021115692437263050},
		{17334, 8231525949846907466},
		{19136, 10944310959829698982},
		{17467, 13602876513398592944},
		{23593, 2945079350535657389},
	} {
		large := mask(14 - normalization) // all are longer than the average of 16 KiB
		if v.length%2 == 0 {
			large <<= 1
		}
		if v.hash&large != 0 {
			t.Errorf("no boundary at length %d: hash %x has bits of %x", v.length, v.hash, large)
		}
	}
}

func TestMasks(t *testing.T) {
	for n := minMaskBits; n <= maxMaskBits; n++ {
		if m := mask(n); bits.OnesCount64(m) != n || m>>63 != 0 {
			t.Errorf("mask of %d bits: %x", n, m)
		}
	}
}

// The numbers that the implementations named by the API have in their sources.
func TestGearTable(t *testing.T) {
	plain, seeded := gearTable(0), gearTable(666)
	for b, want := range map[byte]uint64{
		0: 0x3b5d3c7d207e37dc, 1: 0x784d68ba91123086, 10: 0x0027baaada2acf6b, 128: 0xc0ce47f889336346, 255: 0xaabd2b2a451504e1,
	} {
		if plain[b] != want || seeded[b] != want^666 {
			t.Errorf("byte %d: %x, with the seed 666 %x, want %x", b, plain[b], seeded[b], want)
		}
	}
}
