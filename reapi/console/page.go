package console

import (
	"bytes"
	"embed"
	"encoding/json"
	"errors"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"time"

	"github.com/hearth-build/hearth/reapi/access"
)

//go:embed pages/*.html
var templates embed.FS

//go:embed assets
var assets embed.FS

// page is what there is at an URL: data for its template, which is also what those get
// who want JSON.
type page struct {
	// title, and the entry of the navigation that it belongs to.
	title, section string
	// template is the name of the file that shows data.
	template string
	data     any
	// json is for those who want JSON, if that is not data. An error is answered as one.
	json any
}

// look finds out what there is now.
type look func() (*page, error)

// opener finds out what a request is about. What it returns is called again and again
// for those who want to see what changes.
type opener func(r *http.Request) (look, error)

// problem is an error with the status that a client gets for it.
type problem struct {
	code int
	text string
}

func (p *problem) Error() string { return p.text }

func notFound(text string) error { return &problem{http.StatusNotFound, text} }

func codeOf(err error) int {
	var p *problem
	switch {
	case errors.As(err, &p):
		return p.code
	case errors.Is(err, access.ErrUnknown):
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}

// representation is a form in which there is the same at an URL.
type representation int

const (
	asJSON   representation = iota
	asPage                  // for a browser
	asStream                // of pages, whenever something changes
)

// wanted reads it from the Accept header, or from the query for those who cannot set that.
func wanted(r *http.Request) representation {
	accept := r.Header.Get("Accept")
	switch {
	case r.URL.Query().Get("format") == "json":
		return asJSON
	case strings.Contains(accept, "text/event-stream"):
		return asStream
	case strings.Contains(accept, "text/html"):
		return asPage
	default:
		return asJSON
	}
}

// pages shows what there is to those who may see it.
type pages struct {
	Options

	// Templates by the names of their files, for operators and for others, who get no
	// links to what is for operators alone.
	forOperator, forOthers map[string]*template.Template

	streams chan struct{} // has one element for each that is open
}

// maxStreams is how many pages are kept up to date at a time.
const maxStreams = 200

// newPages parses the templates.
func newPages(o Options) (p *pages, err error) {
	p = &pages{Options: o, streams: make(chan struct{}, maxStreams)}
	if p.forOperator, err = parseTemplates(true); err == nil {
		p.forOthers, err = parseTemplates(false)
	}
	return p, err
}

// parseTemplates parses those for operators, or those for others. Each has what is in
// layout.html and parts.html.
func parseTemplates(operator bool) (map[string]*template.Template, error) {
	known := words()
	known["operator"] = func() bool { return operator }
	common, err := template.New("").Funcs(known).ParseFS(templates, "pages/layout.html", "pages/parts.html")
	if err != nil {
		return nil, err
	}
	files, err := fs.Glob(templates, "pages/*.html")
	if err != nil {
		return nil, err
	}
	parsed := map[string]*template.Template{}
	for _, file := range files {
		one, err := common.Clone()
		if err != nil {
			return nil, err
		}
		if parsed[path.Base(file)], err = one.ParseFS(templates, file); err != nil {
			return nil, err
		}
	}
	return parsed, nil
}

// template is that of a file, for the caller.
func (p *pages) template(r *http.Request, file string) *template.Template {
	if operates(r) {
		return p.forOperator[file]
	}
	return p.forOthers[file]
}

// serve answers with what an opener finds, in the form that is wanted.
func (p *pages) serve(open opener) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		now, err := open(r)
		if err != nil {
			p.fail(w, r, err)
			return
		}
		if wanted(r) == asStream {
			p.stream(w, r, now)
			return
		}
		found, err := now()
		if err != nil {
			p.fail(w, r, err)
			return
		}
		p.answer(w, r, http.StatusOK, found)
	}
}

// simple is an opener of what takes no preparation.
func simple(find func(r *http.Request) (*page, error)) opener {
	return func(r *http.Request) (look, error) {
		return func() (*page, error) { return find(r) }, nil
	}
}

// answer sends one form of a page.
func (p *pages) answer(w http.ResponseWriter, r *http.Request, code int, found *page) {
	value := found.json
	if value == nil {
		value = found.data
	}
	if err, failed := value.(error); failed && wanted(r) != asPage {
		http.Error(w, err.Error(), codeOf(err))
		return
	}
	if wanted(r) != asPage {
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(value) // the client is gone if this fails
		return
	}
	var text bytes.Buffer
	if err := p.template(r, found.template).ExecuteTemplate(&text, "layout", p.frame(r, found)); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(text.Bytes()) // likewise
}

// fail answers with an error, to browsers as a page like the others.
func (p *pages) fail(w http.ResponseWriter, r *http.Request, err error) {
	code := codeOf(err)
	if wanted(r) != asPage {
		http.Error(w, err.Error(), code)
		return
	}
	p.answer(w, r, code, &page{title: http.StatusText(code), template: "error.html", data: err.Error()})
}

// frame is what is around what a page shows.
type frame struct {
	Title, Section, Version string
	Sections                []section
	Main                    any
	Live                    bool
	// JSON is where the same is for programs, if it is.
	JSON string
	Now  time.Time
}

// section is an entry of the navigation.
type section struct{ Name, URL string }

func (p *pages) frame(r *http.Request, found *page) frame {
	sections := []section{{"Actions", "/actions"}, {"Invocations", "/invocations"}}
	if operates(r) {
		sections = append([]section{{"Overview", "/"}}, sections...)
		sections = append(sections, section{"Runners", "/runners"}, section{"Audit", "/audit"}, section{"Store", "/store"})
	}
	f := frame{
		Title: found.title, Section: found.section, Version: p.Source.Status().Version, Sections: sections,
		Main: found.data, Live: found.section != "", Now: time.Now(),
	}
	if _, none := found.json.(error); f.Live && !none {
		query := r.URL.Query()
		query.Set("format", "json")
		f.JSON = r.URL.EscapedPath() + "?" + query.Encode()
	}
	return f
}

// secure keeps what was sent by clients from doing anything in a browser, should it ever
// get there unescaped, and pages from being shown by others.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
	h.Set("Vary", "Accept")
}

// serveAssets serves the style sheet, the script and the icon.
func serveAssets() http.Handler {
	files := http.FileServerFS(assets)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/") {
			http.NotFound(w, r) // no list of files
			return
		}
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Cache-Control", "no-cache")
		files.ServeHTTP(w, r)
	})
}
