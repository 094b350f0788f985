package login

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"html/template"
	"net/http"
	"strconv"
	"strings"

	"github.com/stayauth/stayauth/transport"
)

// A page is what the browser ends on. It is self-contained: no script, and no other resource.
type page struct {
	Status  int
	Mark    string // a sign beside the title, for the eye only
	Title   string
	Text    string
	Details string // what the provider said

	Back, Link string // a local path, and the text of the link to it; empty: no link
}

func successPage(provider string) page {
	return page{http.StatusOK, "✓", "You are logged in",
		provider + " has let you in. You can close this page and go back to the program.", "", "", ""}
}

func failurePage(provider string, err error) page {
	p := page{http.StatusBadRequest, "!", "You are not logged in",
		"The login with " + provider + " did not succeed. Go back to the program, which says more about it.", "", "", ""}
	if e, ok := errors.AsType[*transport.Error](err); ok {
		if e.Code == "access_denied" {
			p.Text = "The program was not allowed to use your account with " + provider +
				". If that was a mistake, go back to the program and log in again."
		}
		p.Details = strings.TrimPrefix(e.Code+": "+e.Description, ": ")
		p.Details = strings.TrimSuffix(p.Details, ": ")
	}
	return p
}

func usedPage() page {
	return page{http.StatusGone, "!", "This login was already used",
		"Another page has answered it before this one, which you can close. The program says what became of the login.", "", "", ""}
}

func foreignPage() page {
	return page{http.StatusBadRequest, "!", "This page does not belong to your login",
		"It comes from another attempt to log in, or somebody made it up, and it was not used. " +
			"If you are logging in, go on in the page that the program has opened.", "", "", ""}
}

// write sends the page. Only one response is sent on a connection, and its length is known, so
// the browser need not wait for the connection to end.
func (p page) write(w http.ResponseWriter) {
	var b strings.Builder
	if err := pageTemplate.Execute(&b, p); err != nil {
		http.Error(w, p.Title, p.Status)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.Header().Set("Content-Length", strconv.Itoa(b.Len()))
	w.WriteHeader(p.Status)
	w.Write([]byte(b.String()))
}

// secure sets the headers of every response: nothing is loaded, run, framed or kept, and no
// other site learns where the browser came from.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
}

// redirect makes the browser send a GET, without the body of the present request (RFC 9700
// section 4.12).
func redirect(w http.ResponseWriter, to string) {
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("Referrer-Policy", "no-referrer")
	w.Header().Set("Location", to)
	w.WriteHeader(http.StatusSeeOther)
}

var pagePolicy = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; style-src 'sha256-" + hash(pageStyle) + "'"

func hash(s string) string {
	sum := sha256.Sum256([]byte(s))
	return base64.StdEncoding.EncodeToString(sum[:])
}

const pageStyle = `:root{color-scheme:light dark;--back:#f6f6f4;--card:#fff;--text:#1d1d1f;--soft:#5c5c61;--line:#dcdcd8;--good:#17713c;--bad:#a8321f}
@media(prefers-color-scheme:dark){:root{--back:#161618;--card:#212124;--text:#f0f0f2;--soft:#a9a9b0;--line:#38383d;--good:#63cf8d;--bad:#ff9a85}}
*{box-sizing:border-box}
body{margin:0;min-height:100vh;display:grid;place-items:center;padding:1.5rem;background:var(--back);color:var(--text);font:1.0625rem/1.55 system-ui,sans-serif}
main{width:100%;max-width:30rem;padding:2.25rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem}
.mark{display:grid;place-items:center;width:2.75rem;height:2.75rem;margin-bottom:1.25rem;border:2px solid;border-radius:50%;font-size:1.4rem;font-weight:700;line-height:1;color:var(--bad)}
.good{color:var(--good)}
.soft{color:var(--soft)}
h1{margin:0 0 .6rem;font-size:1.5rem;line-height:1.25;text-wrap:balance}
p{margin:0;text-wrap:pretty}
.details{margin-top:1.25rem;padding-top:1.25rem;border-top:1px solid var(--line);color:var(--soft);font-size:.9375rem;overflow-wrap:anywhere}
.on{margin-top:1.5rem}
a{color:inherit;font-weight:600}`

var pageTemplate = template.Must(template.New("page").Parse(`<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title>
<style>` + pageStyle + `</style>
</head>
<body>
<main>
<div class="mark{{if eq .Status 200}} good{{else if eq .Status 410}} soft{{end}}" aria-hidden="true">{{.Mark}}</div>
<h1>{{.Title}}</h1>
<p>{{.Text}}</p>
{{- with .Details}}
<p class="details">The provider said: {{.}}</p>
{{- end}}
{{- if .Back}}
<p class="on"><a href="{{.Back}}">{{.Link}}</a></p>
{{- end}}
</main>
</body>
</html>
`))
