package endpoint

import (
	"net/http"
	"net/url"

	"golang.org/x/oauth2"

	"github.com/stayauth/stayauth/tokencache"
)

// A clientAuth is how a client tells the token endpoint who it is, in one way per request
// (RFC 6749 section 2.3).
type clientAuth struct {
	id     string
	secret tokencache.Secret
	style  oauth2.AuthStyle
}

func (a clientAuth) inHeader() bool { return a.secret != "" && a.style == oauth2.AuthStyleInHeader }

// addTo adds what belongs into the form.
func (a clientAuth) addTo(form url.Values) {
	if !a.inHeader() {
		form.Set("client_id", a.id)
		set(form, "client_secret", string(a.secret))
	}
}

// sign adds what belongs into the header.
func (a clientAuth) sign(req *http.Request) {
	if a.inHeader() { // Section 2.3.1: form-urlencoded first.
		req.SetBasicAuth(url.QueryEscape(a.id), url.QueryEscape(string(a.secret)))
	}
}
