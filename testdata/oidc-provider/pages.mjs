// The few pages a person, or a test with a browser, gets to see.

const escape = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);

// page renders a title, lines of { name, value } and a form, which is HTML.
export function page(title, lines, form = '') {
  const rows = lines.map(({ name, value }) => `<p>${name ? `<strong>${escape(name)}</strong>: ` : ''}${escape(value)}</p>`);
  return `<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>${escape(title)}</title>
<style>body{font:16px/1.5 system-ui,sans-serif;max-width:28rem;margin:15vh auto;padding:0 1rem}button{font:inherit;padding:.4rem 1rem}</style>
<h1>${escape(title)}</h1>${rows.join('')}${form}</html>`;
}

// loginPage asks who logs in, and whether the client may have what it asks for.
export function loginPage({ clientName, scope, account }) {
  return page('Log in', [{ value: `${clientName} asks for access to your account.` }, { name: 'Scope', value: scope }], `
<form method="post">
  <p><label>Account <input name="account" value="${escape(account)}" required></label></p>
  <button name="decision" value="allow" autofocus>Allow</button>
  <button name="decision" value="deny" formnovalidate>Deny</button>
</form>`);
}
