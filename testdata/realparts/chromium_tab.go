package realparts

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// A Profile has its own cookies, like a private window.
type Profile struct {
	*Chromium
	id string
}

// NewProfile returns a profile that ends with t.
func (c *Chromium) NewProfile(t testing.TB) *Profile {
	t.Helper()
	own := &Chromium{c.devtools, t}
	var r struct{ BrowserContextID string }
	own.call("", "Target.createBrowserContext", map[string]any{}, &r)
	t.Cleanup(func() {
		own.try("", "Target.disposeBrowserContext", map[string]any{"browserContextId": r.BrowserContextID}, nil)
	})
	return &Profile{own, r.BrowserContextID}
}

// A Tab shows a page.
type Tab struct {
	*Chromium
	session string
}

// Open opens a URL in a new tab.
func (p *Profile) Open(url string) *Tab {
	p.t.Helper()
	var target struct{ TargetID string }
	p.call("", "Target.createTarget", map[string]any{"url": "about:blank", "browserContextId": p.id}, &target)
	var attached struct{ SessionID string }
	p.call("", "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true}, &attached)
	t := &Tab{p.Chromium, attached.SessionID}
	t.call(t.session, "Page.enable", nil, nil)
	t.Go(url)
	return t
}

// Go leads the tab to a URL.
func (t *Tab) Go(url string) {
	// Navigation replies only when the server does, which may be what a test holds up.
	t.send(t.session, "Page.navigate", map[string]any{"url": url})
}

// Reload and Back press the buttons of the browser that are called so.
func (t *Tab) Reload() { t.send(t.session, "Page.reload", nil) }

func (t *Tab) Back() {
	t.t.Helper()
	var r struct {
		CurrentIndex int
		Entries      []struct{ ID int }
	}
	t.call(t.session, "Page.getNavigationHistory", nil, &r)
	if r.CurrentIndex == 0 {
		t.t.Fatal("there is nothing to go back to")
	}
	t.send(t.session, "Page.navigateToHistoryEntry", map[string]any{"entryId": r.Entries[r.CurrentIndex-1].ID})
}

// Eval returns the value of an expression on the page.
func (t *Tab) Eval(expression string, result any) error {
	var r struct {
		Result           struct{ Value json.RawMessage }
		ExceptionDetails *struct{ Text string }
	}
	err := t.try(t.session, "Runtime.evaluate", map[string]any{"expression": expression, "returnByValue": true, "awaitPromise": true}, &r)
	if err == nil && r.ExceptionDetails != nil {
		err = fmt.Errorf("%s: %s", expression, r.ExceptionDetails.Text)
	}
	if err != nil || result == nil {
		return err
	}
	return json.Unmarshal(r.Result.Value, result)
}

// WaitFor waits until the page shows text.
func (t *Tab) WaitFor(text string) {
	t.t.Helper()
	var body string
	for deadline := time.Now().Add(browserTimeout); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) {
		// While a page goes and the next comes, there may be no body.
		err := t.Eval(`document.readyState === "complete" && document.body ? document.body.innerText : ""`, &body)
		if err == nil && bytes.Contains([]byte(body), []byte(text)) {
			return
		}
	}
	t.t.Fatalf("the page does not show %q but:\n%s\nat %v", text, body, t.History())
}

// Click presses the mouse in the middle of the element that a CSS selector finds.
func (t *Tab) Click(selector string) {
	t.t.Helper()
	t.call(t.session, "Page.bringToFront", nil, nil)
	var at struct {
		X, Y float64
		Hit  bool
	}
	// What is pressed before the page is drawn for the first time is lost.
	expression := fmt.Sprintf(`(async () => {
		const drawn = new Promise(done => requestAnimationFrame(() => requestAnimationFrame(done)));
		await Promise.race([drawn, new Promise(done => setTimeout(done, 500))]);
		const e = document.querySelector(%q);
		e.scrollIntoView({block: "center", behavior: "instant"});
		const r = e.getBoundingClientRect(), x = r.x + r.width / 2, y = r.y + r.height / 2;
		return {x, y, hit: e.contains(document.elementFromPoint(x, y))};
	})()`, selector)
	for deadline := time.Now().Add(browserTimeout); !at.Hit; time.Sleep(20 * time.Millisecond) {
		err := t.Eval(expression, &at) // an error while one page goes and the next comes
		if time.Now().After(deadline) {
			t.t.Fatalf("%s is out of reach of the mouse: %v", selector, err)
		}
	}
	// What is pressed before the page is drawn again is lost, too: then it is pressed again.
	for deadline := time.Now().Add(browserTimeout); !t.press(selector, at.X, at.Y); {
		if time.Now().After(deadline) {
			t.t.Fatalf("%s takes no click", selector)
		}
	}
}

// press presses the mouse, and reports whether the element was clicked.
func (t *Tab) press(selector string, x, y float64) (clicked bool) {
	t.t.Helper()
	var marked bool
	mark := fmt.Sprintf(`(() => {
		const e = document.querySelector(%q);
		window.pressed = false;
		if (e) e.addEventListener("click", () => { window.pressed = true }, {capture: true, once: true});
		return e !== null;
	})()`, selector)
	if err := t.Eval(mark, &marked); err != nil || !marked {
		return true // The page has gone: a click before this one took a while, or something else led on.
	}
	params := map[string]any{"type": "mousePressed", "x": x, "y": y, "button": "left", "clickCount": 1}
	t.call(t.session, "Input.dispatchMouseEvent", params, nil)
	params = map[string]any{"type": "mouseReleased", "x": x, "y": y, "button": "left", "clickCount": 1}
	t.send(t.session, "Input.dispatchMouseEvent", params) // It replies when the page has dealt with the click.
	for end := time.Now().Add(2 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var missed bool
		if err := t.Eval(`window.pressed === false`, &missed); err != nil || !missed {
			return true // The next page knows of no mark, and one that is about to go does not answer.
		}
	}
	return false
}

// Fill types text into the field that a CSS selector finds, in place of what is there.
func (t *Tab) Fill(selector, text string) {
	t.t.Helper()
	if err := t.Eval(fmt.Sprintf(`(() => { const e = document.querySelector(%q); e.focus(); e.select() })()`, selector), nil); err != nil {
		t.t.Fatal(err)
	}
	t.call(t.session, "Input.insertText", map[string]any{"text": text}, nil)
}

// History returns the addresses that the back button leads to, and the present one.
func (t *Tab) History() []string {
	t.t.Helper()
	var r struct{ Entries []struct{ URL string } }
	t.call(t.session, "Page.getNavigationHistory", nil, &r)
	var urls []string
	for _, e := range r.Entries {
		urls = append(urls, e.URL)
	}
	return urls
}

// Look saves pictures of the page as it is in light, in dark, and on a phone.
func (t *Tab) Look(name string) {
	t.t.Helper()
	for _, how := range []struct {
		suffix, scheme string
		width, height  int
	}{{"light", "light", 900, 600}, {"dark", "dark", 900, 600}, {"phone", "dark", 360, 640}} {
		t.call(t.session, "Emulation.setEmulatedMedia", map[string]any{
			"features": []map[string]string{{"name": "prefers-color-scheme", "value": how.scheme}}}, nil)
		t.call(t.session, "Emulation.setDeviceMetricsOverride", map[string]any{
			"width": how.width, "height": how.height, "deviceScaleFactor": 1, "mobile": false}, nil)
		var shot struct{ Data string }
		t.call(t.session, "Page.captureScreenshot", nil, &shot)
		png, err := base64.StdEncoding.DecodeString(shot.Data)
		if err != nil {
			t.t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(t.t.ArtifactDir(), name+"-"+how.suffix+".png"), png, 0o644); err != nil {
			t.t.Fatal(err)
		}
	}
	t.call(t.session, "Emulation.clearDeviceMetricsOverride", nil, nil)
}
