package reapi_test

import (
	"math"
	"strings"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// edits are bytes by which messages are changed; when they are used up, all
// decisions are 0.
type edits struct{ bytes []byte }

func (e *edits) next() int {
	if len(e.bytes) == 0 {
		return 0
	}
	b := e.bytes[0]
	e.bytes = e.bytes[1:]
	return int(b)
}

// choose picks one of n.
func (e *edits) choose(n int) int { return e.next() % n }

// message changes one field of a message, or of one that is in it.
func (e *edits) message(m proto.Message) { e.reflect(m.ProtoReflect()) }

func (e *edits) reflect(m protoreflect.Message) {
	fields := m.Descriptor().Fields()
	if fields.Len() == 0 {
		return
	}
	field := fields.Get(e.choose(fields.Len()))
	switch {
	case field.IsMap():
		return // no message that a client sends has one
	case field.IsList():
		e.list(m.Mutable(field).List(), field)
	case e.choose(8) == 0:
		m.Clear(field)
	case field.Message() != nil:
		e.reflect(m.Mutable(field).Message())
	default:
		m.Set(field, e.scalar(field))
	}
}

// list adds, changes, doubles, removes or swaps elements.
func (e *edits) list(l protoreflect.List, field protoreflect.FieldDescriptor) {
	element := func() protoreflect.Value {
		if field.Message() != nil {
			return l.NewElement()
		}
		return e.scalar(field)
	}
	n := l.Len()
	if n == 0 {
		l.Append(element())
		n = 1
	}
	i := e.choose(n)
	switch e.choose(6) {
	case 0:
		l.Append(element())
	case 1:
		if field.Message() != nil {
			l.Append(protoreflect.ValueOfMessage(proto.Clone(l.Get(i).Message().Interface()).ProtoReflect()))
		} else {
			l.Append(l.Get(i))
		}
	case 2:
		l.Truncate(i)
	case 3:
		j := e.choose(n)
		a, b := l.Get(i), l.Get(j)
		l.Set(i, b)
		l.Set(j, a)
	default:
		if field.Message() != nil {
			e.reflect(l.Get(i).Message())
		} else {
			l.Set(i, e.scalar(field))
		}
	}
}

func (e *edits) scalar(field protoreflect.FieldDescriptor) protoreflect.Value {
	switch field.Kind() {
	case protoreflect.StringKind:
		return protoreflect.ValueOfString(e.text())
	case protoreflect.BytesKind:
		return protoreflect.ValueOfBytes([]byte(e.text()))
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(e.choose(2) == 0)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(protoreflect.EnumNumber(e.choose(256) - 2))
	case protoreflect.Int32Kind, protoreflect.Sint32Kind:
		return protoreflect.ValueOfInt32(int32(e.number()))
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(uint32(e.number()))
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(e.number())
	default:
		return field.Default()
	}
}

func (e *edits) number() int64 {
	numbers := []int64{0, 1, -1, 2, 60, 3600, 1 << 20, 1<<31 - 1, -1 << 31, 315_576_000_000, math.MaxInt64, math.MinInt64}
	return numbers[e.choose(len(numbers))]
}

func (e *edits) text() string {
	texts := []string{
		"", "a", "b", "out", "out/x", "d", "file:out/f", "dir:out/d", "fifo:out/p", "link:out/l", "abs:out/abs", "up:out/up", "print:70000",
		"exit:3", "signal:9", "lost:", "timeout:", "missing:", "oom:", "deep:out/deep", "bad:out/bad", "replace:", "closed:out/closed",
		".", "..", "/", "//", "../x", "a/../b", "a/", "a//b", "./a", "/etc/passwd", "a\x00b", "\n", "ü", "\U0001F600", "-rf", "*",
		strings.Repeat("n", 255), strings.Repeat("n", 256), strings.Repeat("p/", 2500), strings.Repeat("x", 100_000),
		"mtime", "unix_mode", "color", "PATH", "A=B", "true", "recycle-runner", "container-image", "docker://x", "network", "bridge",
		"OSFamily", "linux", "plan9", "dockerRunAsRoot", "default-timeout", "1ns", "-1s", "EstimatedMemory", "99999999999T", "EstimatedCPU", "0",
		"e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855", "E3B0", "zz",
	}
	return texts[e.choose(len(texts))]
}
