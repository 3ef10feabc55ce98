package castest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/hearth-build/hearth/cas"
)

// Budget is the byte budget with which open makes a Store that evicts.
const Budget = 12 << 20

// Test runs the suite. Each call of open returns a new, empty Store with a
// budget of Budget bytes, which is closed when its test ends.
func Test(t *testing.T, open func(t *testing.T) cas.Store) {
	for name, test := range map[string]func(t *testing.T, s cas.Store){
		"RoundTrip":                testRoundTrip,
		"Offsets":                  testOffsets,
		"ReadersAreIndependent":    testReadersAreIndependent,
		"Absent":                   testAbsent,
		"EmptyBlob":                testEmptyBlob,
		"FunctionsAreApart":        testFunctionsAreApart,
		"Mismatch":                 testMismatch,
		"ReaderFails":              testReaderFails,
		"Cancelled":                testCancelled,
		"CancelledHalfWay":         testCancelledHalfWay,
		"TooLarge":                 testTooLarge,
		"PutAgain":                 testPutAgain,
		"NoAliasing":               testNoAliasing,
		"ConcurrentPut":            testConcurrentPut,
		"FailingWriterFailsAlone":  testFailingWriterFailsAlone,
		"PutWhileGet":              testPutWhileGet,
		"FindMissing":              testFindMissing,
		"FindMissingMany":          testFindMissingMany,
		"FindMissingIsAUse":        testFindMissingIsAUse,
		"Leases":                   testLeases,
		"LeaseBeforePut":           testLeaseBeforePut,
		"EvictedWhileRead":         testEvictedWhileRead,
		"Batch":                    testBatch,
		"BatchMany":                testBatchMany,
		"Link":                     testLink,
		"LinkConcurrently":         testLinkConcurrently,
		"LinksOutliveTheBlob":      testLinksOutliveTheBlob,
		"LinkOfWhatCannotBeLinked": testLinkRefusals,
	} {
		t.Run(name, func(t *testing.T) { test(t, open(t)) })
	}
}

// random returns n bytes that are the same in each run.
func random(seed uint64, n int) []byte {
	data := make([]byte, n)
	var key [32]byte
	key[0], key[1], key[2] = byte(seed), byte(seed>>8), byte(seed>>16)
	if _, err := rand.NewChaCha8(key).Read(data); err != nil {
		panic(err) // documented never to happen
	}
	return data
}

func put(t *testing.T, s cas.Store, f cas.Function, data []byte) cas.Digest {
	t.Helper()
	d, err := cas.PutBytes(t.Context(), s, f, data)
	if err != nil {
		t.Fatalf("Put %v: %v", d, err)
	}
	return d
}

// get reads a blob from offset to its end.
func get(ctx context.Context, s cas.Store, d cas.Digest, offset int64) ([]byte, error) {
	r, err := s.Get(ctx, d, offset)
	if err != nil {
		return nil, err
	}
	data := bytes.NewBuffer(make([]byte, 0, max(0, d.Size()-offset)+bytes.MinRead))
	_, err = data.ReadFrom(r)
	return data.Bytes(), errors.Join(err, r.Close())
}

func mustHold(t *testing.T, s cas.Store, d cas.Digest, want []byte) {
	t.Helper()
	got, err := get(t.Context(), s, d, 0)
	if err != nil {
		t.Errorf("Get %v: %v", d, err)
	} else if !bytes.Equal(got, want) {
		t.Errorf("Get %v: %d bytes that are not the blob", d, len(got))
	}
	if !has(t, s, d) {
		t.Errorf("%v can be read, but FindMissing lists it", d)
	}
}

// mustLack checks that nothing of a blob is visible by any way.
func mustLack(t *testing.T, s cas.Store, d cas.Digest) {
	t.Helper()
	if _, err := get(t.Context(), s, d, 0); !errors.Is(err, cas.ErrNotFound) {
		t.Errorf("Get %v: got %v, want ErrNotFound", d, err)
	}
	if has(t, s, d) {
		t.Errorf("FindMissing does not list %v, which is absent", d)
	}
}

func has(t *testing.T, s cas.Store, d cas.Digest) bool {
	t.Helper()
	missing, err := s.FindMissing(t.Context(), []cas.Digest{d})
	if err != nil {
		t.Fatalf("FindMissing %v: %v", d, err)
	}
	return len(missing) == 0
}

// press stores new blobs, twice the budget in all, so that a store which evicts
// lets go of all that it may.
func press(t *testing.T, s cas.Store, seed uint64) {
	t.Helper()
	const size = 1 << 20
	data := random(seed, size)
	for i := range 2 * Budget / size {
		copy(data, fmt.Sprintf("pressure %d", i))
		put(t, s, cas.SHA256, bytes.Clone(data))
	}
}
