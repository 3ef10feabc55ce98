package disk

import (
	"cmp"
	"math"
	"slices"
)

// span is a stretch of time in which values were stored: they lie side by side on the
// key-value side (seal.go). One that is evicted stays there until nothing of its span is
// wanted, which the library then drops by the file. A deletion for each would be stored
// like a value, and merged with what it deletes: that takes longer than storing it did.
type span struct {
	from  int64 // to where the next one begins
	bytes int64 // of values that were stored in it
	live  int   // values that are in the index
	dead  int64 // bytes of those that are not, and not deleted either
	moved bool  // some of them are stored once more, later
}

// spans are those that have something in them, in order: the last one gets what is
// stored. They are guarded by index.mu.
type spans struct {
	list []*span
	size int64 // with which a span is full: about what the library makes a table of
	dead int64 // bytes, in all
	end  int64 // the latest time in them
}

// stretch is what is to be cleared on the key-value side, from one time to another.
type stretch struct {
	from, to int64
	whole    bool // all of it; otherwise what is not in the index
	move     bool // what is in the index goes elsewhere, if it can
	moved    bool // some did
	end      bool // nothing but that a file of values ends here
}

// spanSize is how large spans are for a budget (0: as large as the file system), so that
// each fits into a memtable.
func spanSize(memtable uint64, budget int64) int64 {
	fits := int64(memtable) / 16 * 15
	if budget == 0 {
		return fits
	}
	return min(fits, budget/16)
}

// add counts values that lie together, the first one younger than all before. It reports
// whether they are the first of their span: then the file of values must end before them,
// since a file goes when nothing in it is wanted.
func (s *spans) add(written, bytes int64, values int) (first bool) {
	last := len(s.list) - 1
	if first = last < 0 || (s.list[last].bytes >= s.size && written > s.end); first {
		s.list = append(s.list, &span{from: written})
		last++
	}
	s.list[last].bytes += bytes
	s.list[last].live += values
	s.end = max(s.end, written+int64(values)-1)
	return first
}

// died counts a value that has left the index, and returns its span.
func (s *spans) died(written, bytes int64) *span {
	p := s.list[s.find(written)]
	p.live--
	p.dead += bytes
	s.dead += bytes
	return p
}

// find returns which span a value is in: the oldest, most often.
func (s *spans) find(written int64) int {
	if len(s.list) > 1 && written < s.list[1].from {
		return 0
	}
	n, exact := slices.BinarySearchFunc(s.list, written, func(p *span, t int64) int { return cmp.Compare(p.from, t) })
	if !exact {
		n--
	}
	return n
}

// clear returns what to clear now that a value has died: its span if all of it is dead,
// and the span with most dead in it if all have more than allowed.
func (s *spans) clear(written, allowed int64) (c stretch, ok bool) {
	n := s.find(written)
	if n < len(s.list)-1 && s.list[n].live == 0 {
		return s.take(n), true
	}
	if s.dead <= allowed {
		return stretch{}, false
	}
	for i, p := range s.list {
		if p.dead > s.list[n].dead {
			n = i
		}
	}
	c = s.take(n)
	c.move = !c.whole && n < len(s.list)-1
	return c, true
}

// take returns what to clear in a span, after which nothing in it is dead.
func (s *spans) take(n int) stretch {
	p, c := s.list[n], stretch{from: s.list[n].from, to: math.MaxInt64, moved: s.list[n].moved}
	if n < len(s.list)-1 {
		c.to, c.whole = s.list[n+1].from, p.live == 0
	}
	s.dead -= p.dead
	p.dead = 0
	if c.whole {
		s.list = slices.Delete(s.list, n, n+1)
	}
	return c
}

// takeAll is take for all spans with something dead in them.
func (s *spans) takeAll() (all []stretch) {
	for n := 0; n < len(s.list); n++ {
		if s.list[n].dead == 0 {
			continue
		}
		all = append(all, s.take(n))
		if all[len(all)-1].whole {
			n-- // it is out of the list
		}
	}
	return all
}
