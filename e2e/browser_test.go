package e2e_test

import (
	"bytes"
	"cmp"
	"context"
	"image"
	"image/color"
	"image/draw"
	"image/png"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

// browser is a Chromium without a window that looks at the pages of one server. Whatever
// its console says, and each request to somebody else, is a problem.
type browser struct {
	t    *testing.T
	ctx  context.Context
	base string

	mu       sync.Mutex // guards what follows
	problems []string
}

// browserPatience is far more than a page takes.
const browserPatience = 2 * time.Minute

// newBrowser starts one, which is gone when the test ends.
func newBrowser(t *testing.T, base string) *browser {
	t.Helper()
	// Its sandbox wants another user than root, as whom these tests run.
	options := append(slices.Clone(chromedp.DefaultExecAllocatorOptions[:]), chromedp.NoSandbox, chromedp.ExecPath("chromium"),
		chromedp.UserDataDir(filepath.Join(shortTempDir(t), "profile")), chromedp.WindowSize(1200, 900), chromedp.WSURLReadTimeout(browserPatience))
	allocator, end := chromedp.NewExecAllocator(context.Background(), options...)
	ctx, closeTab := chromedp.NewContext(allocator)
	b := &browser{t: t, ctx: ctx, base: base}
	t.Cleanup(func() { // which comes before that of its profile
		if err := chromedp.Cancel(ctx); err != nil {
			t.Errorf("end the browser: %v", err)
		}
		closeTab()
		end()
		chromedp.FromContext(ctx).Allocator.Wait()
	})
	chromedp.ListenTarget(ctx, b.listen)
	b.do(network.Enable(), log.Enable(), runtime.Enable())
	return b
}

// listen notes what ought not to happen.
func (b *browser) listen(event any) {
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if url := e.Request.URL; !strings.HasPrefix(url, b.base+"/") && url != "about:blank" {
			b.note("a request to somebody else: " + url)
		}
	case *log.EventEntryAdded:
		b.note("the browser complains: " + e.Entry.Text + " " + e.Entry.URL)
	case *runtime.EventExceptionThrown:
		b.note("a script fails: " + e.ExceptionDetails.Error())
	case *runtime.EventConsoleAPICalled:
		b.note("a script prints something")
	}
}

func (b *browser) note(problem string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.problems = append(b.problems, problem)
}

// quiet checks that there was no problem so far.
func (b *browser) quiet(where string) {
	b.t.Helper()
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, problem := range b.problems {
		b.t.Errorf("%s: %s", where, problem)
	}
	b.problems = nil
}

// do does something that must work.
func (b *browser) do(actions ...chromedp.Action) {
	b.t.Helper()
	done := make(chan error, 1)
	go func() { done <- chromedp.Run(b.ctx, actions...) }() // ends with the browser
	select {
	case err := <-done:
		if err != nil {
			b.t.Fatal(err)
		}
	case <-time.After(browserPatience):
		b.t.Fatal("the browser does not answer")
	}
}

// open loads a page.
func (b *browser) open(path string) {
	b.t.Helper()
	b.do(chromedp.Navigate(b.base + path))
}

// scripts lets pages run theirs, or not.
func (b *browser) scripts(on bool) {
	b.t.Helper()
	b.do(emulation.SetScriptExecutionDisabled(!on))
}

// dark makes pages believe that their reader prefers dark ones, or light ones.
func (b *browser) dark(on bool) {
	b.t.Helper()
	scheme := "light"
	if on {
		scheme = "dark"
	}
	b.do(emulation.SetEmulatedMedia().WithFeatures([]*emulation.MediaFeature{{Name: "prefers-color-scheme", Value: scheme}}))
}

// evaluate computes something in the page.
func (b *browser) evaluate(script string, into any) {
	b.t.Helper()
	b.do(chromedp.Evaluate(script, into))
}

// text is what a person reads there.
func (b *browser) text(selector string) string {
	b.t.Helper()
	var text string
	b.evaluate(`document.querySelector("`+selector+`")?.innerText ?? ""`, &text)
	return text
}

// press presses a key.
func (b *browser) press(key string) {
	b.t.Helper()
	b.do(chromedp.KeyEvent(key))
}

// screenshot makes a picture of a page as it is, as wide as the window and no higher
// than most, with few colours: it is for a document.
func (b *browser) screenshot(file string, most int64) {
	b.t.Helper()
	var height int64
	b.evaluate(`Math.ceil(document.documentElement.getBoundingClientRect().height)`, &height)
	var data []byte
	b.do(chromedp.ActionFunc(func(ctx context.Context) (err error) {
		data, err = page.CaptureScreenshot().WithCaptureBeyondViewport(true).
			WithClip(&page.Viewport{Width: 1200, Height: float64(min(height, most)), Scale: 1}).Do(ctx)
		return err
	}))
	full, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		b.t.Fatal(err)
	}
	var small bytes.Buffer
	if err := (&png.Encoder{CompressionLevel: png.BestCompression}).Encode(&small, fewColours(full)); err != nil {
		b.t.Fatal(err)
	}
	if size := full.Bounds().Size(); size.X != 1200 || size.Y < 300 || small.Len() > 120<<10 {
		b.t.Errorf("%s: %v, %d bytes", file, size, small.Len())
	}
	if err := os.WriteFile(file, small.Bytes(), 0o644); err != nil {
		b.t.Fatal(err)
	}
}

// fewColours is a picture in the colours that it has most of, none much like another.
func fewColours(full image.Image) *image.Paletted {
	count := map[color.RGBA]int{}
	bounds := full.Bounds()
	plain := image.NewRGBA(bounds)
	draw.Draw(plain, bounds, full, bounds.Min, draw.Src)
	for y := bounds.Min.Y; y < bounds.Max.Y; y++ {
		for x := bounds.Min.X; x < bounds.Max.X; x++ {
			count[plain.RGBAAt(x, y)]++
		}
	}
	var colours []color.RGBA
	for c := range count {
		colours = append(colours, c)
	}
	slices.SortFunc(colours, func(a, b color.RGBA) int { return cmp.Compare(count[b], count[a]) })
	palette := color.Palette{}
	const most, alike = 96, 14
	far := func(a, b uint8) int { return max(int(a)-int(b), int(b)-int(a)) }
	for _, c := range colours {
		near := slices.ContainsFunc(palette, func(other color.Color) bool {
			o := other.(color.RGBA)
			return far(o.R, c.R)+far(o.G, c.G)+far(o.B, c.B) < alike
		})
		if !near && len(palette) < most {
			palette = append(palette, c)
		}
	}
	small := image.NewPaletted(bounds, palette)
	draw.Draw(small, bounds, full, bounds.Min, draw.Src)
	return small
}
