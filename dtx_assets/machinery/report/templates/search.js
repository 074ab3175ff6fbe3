// Finds tables, columns and whatever else stands on the page: what does not have all the words is hidden.
(() => {
  const field = document.getElementById("search"), said = document.getElementById("found")
  const main = document.getElementById("main")
  const text = element => element.textContent.toLowerCase()
  // Rows that share a remedy stay together.
  const units = []
  for (const body of main.querySelectorAll("tbody")) {
    let left = 0
    for (const row of body.rows) {
      if (left) { units[units.length - 1].push(row); left-- } else {
        units.push([row])
        left = Math.max(...[...row.cells].map(cell => cell.rowSpan)) - 1
      }
    }
  }
  for (const article of main.querySelectorAll("article")) units.push([article])
  const texts = units.map(unit => unit.map(text).join(" "))
  // Of a table or a model that is called so, all columns are shown.
  const whole = units.map(([first]) => {
    const inside = first.closest(".inside")
    return inside ? text(inside.parentElement.querySelector("summary")) : ""
  })
  let closed = null
  const clear = () => {
    for (const element of main.querySelectorAll(".hit, .has")) element.classList.remove("hit", "has")
    if (closed) for (const details of main.querySelectorAll("details")) details.open = !closed.has(details)
    closed = null
    document.body.classList.remove("searching")
    said.textContent = ""
  }
  const find = () => {
    const words = field.value.toLowerCase().split(/\s+/).filter(Boolean)
    if (!words.length) return clear()
    closed ??= new Set([...main.querySelectorAll("details")].filter(details => !details.open))
    for (const element of main.querySelectorAll(".hit, .has")) element.classList.remove("hit", "has")
    document.body.classList.add("searching")
    let hits = 0
    units.forEach((unit, place) => {
      if (!words.every(word => texts[place].includes(word) || whole[place].includes(word))) return
      hits++
      for (const element of unit) element.classList.add("hit")
      for (let above = unit[0].parentElement; above !== main; above = above.parentElement) above.classList.add("has")
    })
    for (const details of main.querySelectorAll("details")) {
      details.open = details.classList.contains("has") || Boolean(details.closest(".hit"))
    }
    said.textContent = hits === 1 ? "1 place" : hits ? `${hits} places` : "nothing is called so"
  }
  field.addEventListener("input", find)
  field.addEventListener("keydown", event => {
    if (event.key === "Escape") { field.value = ""; clear(); field.blur() }
  })
  document.addEventListener("keydown", event => {
    if (event.key !== "/" || event.ctrlKey || event.metaKey || event.altKey || event.target === field) return
    event.preventDefault()
    field.focus()
    field.select()
  })
  // What a link leads to may be hidden.
  main.addEventListener("click", event => {
    if (!event.target.closest("a") || !closed) return
    field.value = ""
    clear()
  })
  field.closest("[hidden]").hidden = false
})()
