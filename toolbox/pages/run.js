// One slider shows the same view of all pictures. Without this script they lie side by side.
document.documentElement.classList.add("js");
const slider = document.getElementById("views");
if (slider) {
  const names = ["image", "truth", "prediction", "errors"];
  const show = () => {
    const name = names[slider.value];
    document.getElementById("view").textContent = name;
    slider.setAttribute("aria-valuetext", name);
    for (const view of document.querySelectorAll(".view")) {
      view.classList.toggle("on", view.dataset.view === name);
    }
  };
  slider.closest(".slider").hidden = false;
  slider.addEventListener("input", show);
  for (const views of document.querySelectorAll(".views")) {
    views.addEventListener("click", () => {
      slider.value = (Number(slider.value) + 1) % names.length;
      show();
    });
  }
  show();
}
