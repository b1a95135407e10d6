"""One HTML page that carries a model, runs it in the browser, and explains what it writes.

The scripts run in this order, as one: `engine.js` is the model, `writing.js` a text and the choice
of what comes next, `explain.js` what each part adds; these know of no page. The others draw it.
"""
