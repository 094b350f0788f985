package main

import (
	_ "embed"
	"html/template"
	"net"
	"net/http"
	"net/url"

	"github.com/stayauth/stayauth/transport/oauthtest"
)

// An embedded provider is there for trying the application out: an authorization server and
// an API, with a page that asks the user. A refresh token works once, and whoever presents
// it again ends the login.
type embedded struct {
	*oauthtest.Server
	http *http.Server
}

// startProvider starts a provider, and makes the application its client.
func startProvider(o *options) (*embedded, error) {
	p := &embedded{Server: oauthtest.New(oauthtest.Config{
		Policy:    oauthtest.StrictFamily,
		Scope:     o.scopes + " " + o.moreScopes,
		AccessTTL: o.tokenLife,
	})}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	mux := http.NewServeMux()
	mux.Handle("/", p.Handler())
	mux.HandleFunc("GET /authorize", p.ask)
	p.http = &http.Server{Handler: mux}
	go p.http.Serve(listener)
	o.issuer = "http://" + listener.Addr().String()
	o.clientID, o.clientSecret = p.ClientID(), p.ClientSecret()
	o.api = o.issuer + "/api/me"
	return p, nil
}

func (p *embedded) Close() {
	p.http.Close()
	p.Server.Close()
}

//go:embed pages/provider/ask.html
var askHTML string

var askPage = template.Must(template.New("").Parse(askHTML))

// ask is the page that asks the user, who becomes whoever is named.
func (p *embedded) ask(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	switch answer := q.Get("answer"); {
	case answer == "allow" && q.Get("login_hint") != "":
		p.Handler().ServeHTTP(w, r)
	case answer == "deny" && q.Get("client_id") == p.ClientID():
		back, err := url.Parse(q.Get("redirect_uri"))
		if err != nil {
			http.Error(w, "the redirect URI is malformed", http.StatusBadRequest)
			return
		}
		back.RawQuery = url.Values{"error": {"access_denied"}, "error_description": {"the user said no"},
			"state": q["state"], "iss": {"http://" + r.Host}}.Encode()
		http.Redirect(w, r, back.String(), http.StatusSeeOther)
	default:
		q.Del("answer")
		q.Del("login_hint")
		w.Header().Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'")
		askPage.Execute(w, q)
	}
}
