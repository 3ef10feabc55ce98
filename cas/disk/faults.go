package disk

// The operations on files that a test can make fail.
const (
	opCreate = "create"
	opOpen   = "open"
	opRead   = "read"
	opWrite  = "write"
	opPlace  = "place"
)

// faults decides which operations on blobs' files fail; nil lets all pass. The
// key-value side has such a seam in its file system.
type faults func(op string) error

func (f faults) at(op string) error {
	if f == nil {
		return nil
	}
	return f(op)
}
